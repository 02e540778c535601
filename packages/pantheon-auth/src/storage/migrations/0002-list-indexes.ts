/** Indexes for what is asked of lists: events of one subject within a tenant, and the keys that a key created. */
import { type Kysely, sql } from 'kysely';

export async function listIndexes(db: Kysely<unknown>): Promise<void> {
  await db.schema.createIndex('events_of_subject').on('events').columns(['tenant_id', 'subject_id', 'seq']).execute();
  // Without the tenant it led through the events of others.
  await db.schema.dropIndex('events_by_subject').execute();

  // Across tenants: keys of the system tenant create keys in the others.
  await db.schema
    .createIndex('api_keys_by_parent')
    .on('api_keys')
    .columns(['created_by', 'created_at desc', 'id desc'])
    .where(sql.ref('created_by'), 'is not', null)
    .execute();
  await db.schema.dropIndex('api_keys_by_creator').execute();
}
