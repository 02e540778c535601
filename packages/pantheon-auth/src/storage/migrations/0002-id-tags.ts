/**
 * Adds the secrets that tag ids, and to each key the number of the secret that tagged its id: null for existing keys.
 */
import type { Kysely } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

export async function idTags(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  const { text, integer, bytes } = dialect.columnTypes;
  const secrets = db.schema
    .createTable('id_tag_secrets')
    .addColumn('number', integer, (c) => c.primaryKey().notNull())
    .addColumn('tenant_id', text, (c) => c.notNull())
    .addColumn('created_at', integer, (c) => c.notNull())
    .addColumn('retired_at', integer)
    .addColumn('revision', integer, (c) => c.notNull())
    .addColumn('sealed', bytes, (c) => c.notNull());
  await dialect.strict(secrets).execute();
  await db.schema.alterTable('api_keys').addColumn('id_tag', integer).execute();
  // Two queries use it: whether a key without a tag exists, and the highest number of a secret in use.
  await db.schema.createIndex('api_keys_by_id_tag').on('api_keys').column('id_tag').execute();
  await dialect.refuseUntaggedKeys(db);
}
