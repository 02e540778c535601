/** Facts about the database itself: its id, the sealed canary, settings that every node must share. */
import type { Kysely } from 'kysely';
import { operational } from '../../events/write-lanes.ts';
import { invariant, PantheonError } from '../../foundation/errors.ts';
import type { Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';

export class SqlMeta {
  readonly #db: Kysely<Tables>;
  readonly #writer: WriteQueue;

  constructor(db: Kysely<Tables>, writer: WriteQueue) {
    this.#db = db;
    this.#writer = writer;
  }

  async get(name: string): Promise<string | null> {
    return (await storedValue(this.#db, name)) ?? null;
  }

  /** Writes it unless it is there, and returns what is there: of several processes the first one decides. */
  async insertOnce(name: string, value: string): Promise<string> {
    const written = this.#writer.run(operational('settings'), async (transaction) => {
      await transaction
        .insertInto('meta')
        .values({ name, value })
        .onConflict((conflict) => conflict.column('name').doNothing())
        .execute();
      const stored = await storedValue(transaction, name);
      invariant(stored !== undefined, 'what was inserted is there');
      return stored;
    });
    return written.catch(async (error: unknown) => {
      // Where it is there already nothing would have been written: a start on a full disk succeeds.
      const isFull = error instanceof PantheonError && error.code === 'store_full';
      const stored = isFull ? await storedValue(this.#db, name) : undefined;
      if (stored === undefined) throw error;
      return stored;
    });
  }
}

async function storedValue(db: Kysely<Tables>, name: string): Promise<string | undefined> {
  const row = await db.selectFrom('meta').select('value').where('name', '=', name).executeTakeFirst();
  return row?.value;
}
