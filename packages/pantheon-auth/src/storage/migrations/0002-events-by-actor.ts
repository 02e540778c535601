/** Events can be found by the key that acted: what it did is known when it turns out to have been stolen. */
import { type Kysely, sql } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

/** How the body of an event by a key begins: canonical JSON orders its members, and an id has 16 characters. */
const BEGINNING = '{"actor":{"keyId":"';
const ID_LENGTH = 16;

export async function eventsByActor(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  await db.schema.alterTable('events').addColumn('actor_key_id', dialect.columnTypes.text).execute();
  // Compared as text and not read as JSON: an event that was damaged must not keep the store from being brought up to date.
  await dialect.fillLogColumn(db, async () => {
    await sql`
      update events set actor_key_id = substr(body, ${sql.lit(BEGINNING.length + 1)}, ${sql.lit(ID_LENGTH)})
      where substr(body, 1, ${sql.lit(BEGINNING.length)}) = ${sql.lit(BEGINNING)}
        and substr(body, ${sql.lit(BEGINNING.length + ID_LENGTH + 1)}, 2) = '"}'`.execute(db);
  });
  await db.schema
    .createIndex('events_by_actor')
    .on('events')
    .columns(['actor_key_id', 'seq'])
    .where(sql.ref('actor_key_id'), 'is not', null)
    .execute();
}
