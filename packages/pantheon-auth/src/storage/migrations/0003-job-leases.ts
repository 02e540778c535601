/** Which node runs each job in the background, and when it is due again. A row is made by the first run. */
import type { Kysely } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

export async function jobLeases(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  const { text, integer } = dialect.columnTypes;
  const leases = db.schema
    .createTable('job_leases')
    .addColumn('name', text, (c) => c.primaryKey().notNull())
    .addColumn('node_id', text, (c) => c.notNull())
    .addColumn('fence', integer, (c) => c.notNull())
    .addColumn('expires_at', integer, (c) => c.notNull())
    .addColumn('due_at', integer, (c) => c.notNull())
    .addColumn('failures', integer, (c) => c.notNull());
  await dialect.strict(leases).execute();
}
