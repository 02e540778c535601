/** Audiences that the keys of a tenant may be given. Null in the rows of before: none but those of the service itself. */
import type { Kysely } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

export async function tenantAudiences(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  await db.schema.alterTable('tenants').addColumn('audiences', dialect.columnTypes.text).execute();
}
