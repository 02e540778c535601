/** How far each consumer of the log has got. A row is made by its first run. */
import type { Kysely } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

export async function logConsumers(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  const { text, integer } = dialect.columnTypes;
  const consumers = db.schema
    .createTable('log_consumers')
    .addColumn('name', text, (c) => c.primaryKey().notNull())
    .addColumn('seq', integer, (c) => c.notNull())
    .addColumn('event_id', text);
  await dialect.strict(consumers).execute();
}
