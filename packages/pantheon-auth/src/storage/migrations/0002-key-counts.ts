/** How many keys each tenant has that are not revoked: counted once here, and with every commit from then on. */
import { type Kysely, sql } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

export async function keyCounts(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  const { text, integer } = dialect.columnTypes;
  const counts = db.schema
    .createTable('key_counts')
    .addColumn('tenant_id', text, (c) => c.primaryKey().notNull())
    .addColumn('keys', integer, (c) => c.notNull());
  await dialect.strict(counts).execute();
  await sql`
    insert into key_counts (tenant_id, keys)
    select tenant_id, count(*) from api_keys where state <> 'revoked' group by tenant_id`.execute(db);
}
