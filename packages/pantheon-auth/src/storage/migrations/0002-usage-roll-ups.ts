/** Usage by hour and day, and of whole tenants, so that a report reads no more rows than it shows. */
import { type Kysely, sql } from 'kysely';
import type { SqlDialect } from '../dialect.ts';

export async function usageRollUps(db: Kysely<unknown>, dialect: SqlDialect): Promise<void> {
  const { text, integer } = dialect.columnTypes;
  const keyUsage = db.schema
    .createTable('key_usage')
    .addColumn('tenant_id', text, (c) => c.notNull())
    .addColumn('key_id', text, (c) => c.notNull())
    .addColumn('step', text, (c) => c.notNull())
    .addColumn('since', integer, (c) => c.notNull())
    .addColumn('outcome', text, (c) => c.notNull())
    .addColumn('count', integer, (c) => c.notNull())
    .addPrimaryKeyConstraint('key_usage_pk', ['key_id', 'step', 'since', 'outcome']);
  const tenantUsage = db.schema
    .createTable('tenant_usage')
    .addColumn('tenant_id', text, (c) => c.notNull())
    .addColumn('step', text, (c) => c.notNull())
    .addColumn('since', integer, (c) => c.notNull())
    .addColumn('outcome', text, (c) => c.notNull())
    .addColumn('count', integer, (c) => c.notNull())
    .addPrimaryKeyConstraint('tenant_usage_pk', ['tenant_id', 'step', 'since', 'outcome']);
  await dialect.strict(keyUsage).execute();
  await dialect.strict(tenantUsage).execute();

  for (const [step, lengthMs] of [
    ['hour', 3_600_000],
    ['day', 86_400_000],
  ] as const) {
    await sql`
      insert into key_usage (tenant_id, key_id, step, since, outcome, count)
      select min(tenant_id), key_id, ${sql.lit(step)}, minute - minute % ${sql.lit(lengthMs)}, outcome,
        cast(sum(count) as bigint)
      from usage_counts group by key_id, minute - minute % ${sql.lit(lengthMs)}, outcome`.execute(db);
  }
  for (const [step, lengthMs] of [
    ['minute', 60_000],
    ['hour', 3_600_000],
    ['day', 86_400_000],
  ] as const) {
    await sql`
      insert into tenant_usage (tenant_id, step, since, outcome, count)
      select tenant_id, ${sql.lit(step)}, minute - minute % ${sql.lit(lengthMs)}, outcome, cast(sum(count) as bigint)
      from usage_counts group by tenant_id, minute - minute % ${sql.lit(lengthMs)}, outcome`.execute(db);
  }

  // The oldest are found to be deleted. A tenant's minutes are found in its own table now.
  await db.schema.createIndex('usage_counts_by_age').on('usage_counts').column('minute').execute();
  await db.schema.createIndex('key_usage_by_age').on('key_usage').columns(['step', 'since']).execute();
  await db.schema.createIndex('tenant_usage_by_age').on('tenant_usage').columns(['step', 'since']).execute();
  await db.schema.dropIndex('usage_counts_by_time').execute();
}
