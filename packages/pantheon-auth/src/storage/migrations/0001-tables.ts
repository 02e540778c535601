/** The first tables. Frozen: a later change is a later migration. Columns and their meaning are told in `../tables.ts`. */
import { type CreateTableBuilder, type Kysely, type SchemaModule, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';

export function tables0001(dialect: SqlDialect): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      for (const table of accessState(db.schema, dialect)) await dialect.strict(table).execute();
      for (const table of log(db.schema, dialect)) await dialect.strict(table).execute();
      for (const table of operationalState(db.schema, dialect)) await dialect.strict(table).execute();
      for (const index of indexes(db.schema)) await index.execute();
      await sql`insert into log_head (id, seq, at) values (1, 0, 0)`.execute(db);
      await dialect.makeLogAppendOnly(db);
    },
  };
}

type AnyTable = CreateTableBuilder<string, string>;

function accessState(schema: SchemaModule, dialect: SqlDialect): readonly AnyTable[] {
  const { text, integer, bytes } = dialect.columnTypes;
  return [
    schema
      .createTable('tenants')
      .addColumn('id', text, (c) => c.primaryKey().notNull())
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('name', text, (c) => c.notNull())
      .addColumn('state', text, (c) => c.notNull())
      .addColumn('created_at', integer, (c) => c.notNull())
      .addColumn('revision', integer, (c) => c.notNull()),
    schema
      .createTable('api_keys')
      .addColumn('id', text, (c) => c.primaryKey().notNull())
      .addColumn('tenant_id', text, (c) => c.notNull().references('tenants.id'))
      .addColumn('user_id', text, (c) => c.notNull())
      .addColumn('name', text, (c) => c.notNull())
      .addColumn('description', text)
      .addColumn('environment', text, (c) => c.notNull())
      .addColumn('permissions', text, (c) => c.notNull())
      .addColumn('grantable', text, (c) => c.notNull())
      .addColumn('state', text, (c) => c.notNull())
      .addColumn('state_at', integer)
      .addColumn('state_reason', text)
      .addColumn('created_at', integer, (c) => c.notNull())
      .addColumn('created_by', text)
      .addColumn('not_before', integer)
      .addColumn('expires_at', integer)
      .addColumn('tokens_not_before', integer)
      .addColumn('rate_limits', text, (c) => c.notNull())
      .addColumn('quota', text)
      .addColumn('ip_allowlist', text, (c) => c.notNull())
      .addColumn('rotation', text)
      .addColumn('jwt_algorithm', text)
      .addColumn('version', integer, (c) => c.notNull())
      .addColumn('revision', integer, (c) => c.notNull())
      .addColumn('sealed', bytes, (c) => c.notNull()),
    schema
      .createTable('api_key_versions')
      .addColumn('key_id', text, (c) => c.notNull().references('api_keys.id'))
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('version', integer, (c) => c.notNull())
      .addColumn('created_at', integer, (c) => c.notNull())
      .addColumn('accepted_until', integer)
      .addColumn('revision', integer, (c) => c.notNull())
      .addColumn('sealed', bytes, (c) => c.notNull())
      .addPrimaryKeyConstraint('api_key_versions_pk', ['key_id', 'version']),
    schema
      .createTable('signing_keys')
      .addColumn('kid', text, (c) => c.primaryKey().notNull())
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('algorithm', text, (c) => c.notNull())
      .addColumn('public_jwk', text, (c) => c.notNull())
      .addColumn('created_at', integer, (c) => c.notNull())
      .addColumn('retired_at', integer)
      .addColumn('revision', integer, (c) => c.notNull())
      .addColumn('sealed', bytes, (c) => c.notNull()),
    schema
      .createTable('token_revocations')
      .addColumn('jti', text, (c) => c.primaryKey().notNull())
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('key_id', text, (c) => c.notNull())
      .addColumn('expires_at', integer, (c) => c.notNull())
      .addColumn('revision', integer, (c) => c.notNull()),
  ];
}

function log(schema: SchemaModule, dialect: SqlDialect): readonly AnyTable[] {
  const { text, integer, bytes } = dialect.columnTypes;
  return [
    schema
      .createTable('log_head')
      .addColumn('id', integer, (c) => c.primaryKey().notNull())
      .addColumn('seq', integer, (c) => c.notNull())
      .addColumn('at', integer, (c) => c.notNull())
      .addCheckConstraint('log_head_is_one_row', sql`id = 1`),
    schema
      .createTable('events')
      .addColumn('seq', integer, (c) => c.primaryKey().notNull())
      .addColumn('id', text, (c) => c.notNull().unique())
      .addColumn('at', integer, (c) => c.notNull())
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('type', text, (c) => c.notNull())
      .addColumn('subject_type', text, (c) => c.notNull())
      .addColumn('subject_id', text, (c) => c.notNull())
      .addColumn('body', text, (c) => c.notNull())
      .addColumn('leaf_random', bytes, (c) => c.notNull())
      .addColumn('leaf', bytes, (c) => c.notNull()),
    // Written before its event, because the head and the events come last; so it cannot refer to it.
    schema
      .createTable('event_details')
      .addColumn('event_id', text, (c) => c.primaryKey().notNull())
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('sealed', bytes, (c) => c.notNull()),
  ];
}

/** Nothing here refers to access state: it is written apart from it, by its own clock. */
function operationalState(schema: SchemaModule, dialect: SqlDialect): readonly AnyTable[] {
  const { text, integer, bytes } = dialect.columnTypes;
  return [
    schema
      .createTable('meta')
      .addColumn('name', text, (c) => c.primaryKey().notNull())
      .addColumn('value', text, (c) => c.notNull()),
    schema
      .createTable('data_keys')
      .addColumn('id', text, (c) => c.primaryKey().notNull())
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('wrapped', bytes, (c) => c.notNull())
      .addColumn('created_at', integer, (c) => c.notNull())
      .addColumn('retired_at', integer)
      .addColumn('seals', integer, (c) => c.notNull()),
    schema
      .createTable('usage_counts')
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('key_id', text, (c) => c.notNull())
      .addColumn('version', integer, (c) => c.notNull())
      .addColumn('minute', integer, (c) => c.notNull())
      .addColumn('outcome', text, (c) => c.notNull())
      .addColumn('count', integer, (c) => c.notNull())
      // The minute comes before the version, so that a key's usage in a span of time is one range of this index.
      .addPrimaryKeyConstraint('usage_counts_pk', ['key_id', 'minute', 'version', 'outcome']),
    schema
      .createTable('version_usage')
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('key_id', text, (c) => c.notNull())
      .addColumn('version', integer, (c) => c.notNull())
      .addColumn('usage_count', integer, (c) => c.notNull())
      .addColumn('last_used_at', integer, (c) => c.notNull())
      .addColumn('last_addresses', text, (c) => c.notNull())
      .addPrimaryKeyConstraint('version_usage_pk', ['key_id', 'version']),
    schema
      .createTable('usage_batches')
      .addColumn('id', text, (c) => c.primaryKey().notNull())
      .addColumn('at', integer, (c) => c.notNull()),
    schema
      .createTable('quota_leases')
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('key_id', text, (c) => c.notNull())
      .addColumn('period', text, (c) => c.notNull())
      .addColumn('reserved', integer, (c) => c.notNull())
      .addPrimaryKeyConstraint('quota_leases_pk', ['key_id', 'period'])
      .addCheckConstraint('quota_leases_not_negative', sql`reserved >= 0`),
    schema
      .createTable('idempotency')
      .addColumn('tenant_id', text, (c) => c.notNull())
      .addColumn('caller', text, (c) => c.notNull())
      .addColumn('idempotency_key', text, (c) => c.notNull())
      .addColumn('request_hash', text, (c) => c.notNull())
      .addColumn('key_id', text, (c) => c.notNull())
      .addColumn('version', integer, (c) => c.notNull())
      .addColumn('created_at', integer, (c) => c.notNull())
      .addPrimaryKeyConstraint('idempotency_pk', ['tenant_id', 'caller', 'idempotency_key']),
  ];
}

function indexes(schema: SchemaModule): readonly { execute(): Promise<void> }[] {
  const index = (name: string) => schema.createIndex(name);
  return [
    // Each list of keys is one range of one index in the order of its pages, also under a filter on its owner.
    index('api_keys_by_age').on('api_keys').columns(['tenant_id', 'created_at desc', 'id desc']),
    index('api_keys_by_user').on('api_keys').columns(['tenant_id', 'user_id', 'created_at desc', 'id desc']),
    index('api_keys_by_creator').on('api_keys').columns(['tenant_id', 'created_by', 'created_at desc', 'id desc']),
    index('token_revocations_by_expiry').on('token_revocations').columns(['expires_at', 'jti']),
    index('events_by_tenant').on('events').columns(['tenant_id', 'seq']),
    index('events_by_type').on('events').columns(['tenant_id', 'type', 'seq']),
    index('events_by_subject').on('events').columns(['subject_type', 'subject_id', 'seq']),
    // Two nodes that make a tenant's data key at once: the second finds the first (data-keys).
    index('data_keys_one_active').unique().on('data_keys').column('tenant_id').where(sql.ref('retired_at'), 'is', null),
    index('usage_counts_by_time').on('usage_counts').columns(['tenant_id', 'minute']),
    index('usage_batches_by_age').on('usage_batches').column('at'),
    index('idempotency_by_age').on('idempotency').column('created_at'),
  ];
}
