/** When the job looks at a key, the next secrets of keys that the service rotates, and what a rollback needs of versions. */
import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';

export function tables0005(dialect: SqlDialect): Migration {
  const { text, integer, bytes } = dialect.columnTypes;
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable('api_keys').addColumn('kept_versions', text).execute();
      await db.schema.alterTable('api_key_versions').addColumn('retires_on_first_use', integer).execute();
      const schedules = db.schema
        .createTable('key_schedules')
        .addColumn('key_id', text, (c) => c.primaryKey().notNull())
        .addColumn('tenant_id', text, (c) => c.notNull())
        .addColumn('revision', integer, (c) => c.notNull())
        .addColumn('look_at', integer)
        .addColumn('awaits_use_of', integer)
        .addColumn('announced', integer)
        .addColumn('announced_version', integer)
        .addColumn('announced_since', integer)
        .addColumn('expiry_announced', integer)
        .addColumn('expiry_announced_of', integer);
      await dialect.strict(schedules).execute();
      // When many keys of one tenant are due, the keys of other tenants are found by reading the index only.
      await db.schema
        .createIndex('key_schedules_by_time')
        .on('key_schedules')
        .columns(['look_at', 'tenant_id', 'key_id'])
        .execute();
      const secrets = db.schema
        .createTable('next_secrets')
        .addColumn('key_id', text, (c) => c.primaryKey().notNull().references('api_keys.id'))
        .addColumn('tenant_id', text, (c) => c.notNull())
        .addColumn('version', integer, (c) => c.notNull())
        .addColumn('revision', integer, (c) => c.notNull())
        .addColumn('sealed', bytes, (c) => c.notNull());
      await dialect.strict(secrets).execute();
      // Keys that already have a policy or an expiry are looked at once after the migration, and then when they are due.
      await sql`
        insert into key_schedules (key_id, tenant_id, revision, look_at)
        select id, tenant_id, revision, 0 from api_keys
        where (rotation is not null or expires_at is not null) and state <> 'revoked'
      `.execute(db);
    },
  };
}
