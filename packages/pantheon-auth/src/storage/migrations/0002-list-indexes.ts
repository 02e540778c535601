/** Indexes for two queries: the events of one subject within a tenant, and the keys that a key created. */
import { type Kysely, sql } from 'kysely';

export async function listIndexes(db: Kysely<unknown>): Promise<void> {
  await db.schema.createIndex('events_of_subject').on('events').columns(['tenant_id', 'subject_id', 'seq']).execute();
  // The former index had no tenant, so a query read events of other tenants too.
  await db.schema.dropIndex('events_by_subject').execute();

  // Without the tenant, because keys of the system tenant create keys in other tenants.
  await db.schema
    .createIndex('api_keys_by_parent')
    .on('api_keys')
    .columns(['created_by', 'created_at desc', 'id desc'])
    .where(sql.ref('created_by'), 'is not', null)
    .execute();
  await db.schema.dropIndex('api_keys_by_creator').execute();
}
