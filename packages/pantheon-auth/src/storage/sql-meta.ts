/** Facts about the database itself: its id, the sealed canary, settings that every node must share. */
import type { Kysely } from 'kysely';
import { operational } from '../events/write-queue.ts';
import { invariant } from '../foundation/errors.ts';
import type { Tables } from './tables.ts';
import type { Writer } from './writer.ts';

export class SqlMeta {
  readonly #db: Kysely<Tables>;
  readonly #writer: Writer;

  constructor(db: Kysely<Tables>, writer: Writer) {
    this.#db = db;
    this.#writer = writer;
  }

  async get(name: string): Promise<string | null> {
    return (await storedValue(this.#db, name)) ?? null;
  }

  /** Writes it unless it is there, and returns what is there: of several processes the first one decides. */
  async insertOnce(name: string, value: string): Promise<string> {
    // Nothing is written where it is there already: a start on a full disk has to succeed.
    const known = await storedValue(this.#db, name);
    if (known !== undefined) return known;
    return this.#writer.run(operational('settings'), async (transaction) => {
      await transaction
        .insertInto('meta')
        .values({ name, value })
        .onConflict((conflict) => conflict.column('name').doNothing())
        .execute();
      const stored = await storedValue(transaction, name);
      invariant(stored !== undefined, 'what was inserted is there');
      return stored;
    });
  }
}

async function storedValue(db: Kysely<Tables>, name: string): Promise<string | undefined> {
  const row = await db.selectFrom('meta').select('value').where('name', '=', name).executeTakeFirst();
  return row?.value;
}
