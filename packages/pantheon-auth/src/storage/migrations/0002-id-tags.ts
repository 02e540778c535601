/** The secrets that tag the ids of keys, and which of them tagged each key. Keys that exist get none: null. */
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
  // Whether a key without a tag exists, and the last secret that was used, are each the end of this index.
  await db.schema.createIndex('api_keys_by_id_tag').on('api_keys').column('id_tag').execute();
  await dialect.refuseUntaggedKeys(db);
}
