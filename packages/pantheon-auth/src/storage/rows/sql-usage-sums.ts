/**
 * Sums of usage: by hour and day for each key, and by minute, hour and day for each tenant. They are added to in the
 * transaction that stores the counts, so they are never apart from them, whatever is retried or cut off.
 */
import { type CompiledQuery, type Kysely, sql, type Transaction } from 'kysely';
import type { UsageCount, UsageQuery, UsageStep, UsageSum } from '../../usage/usage-rows.ts';
import { stepOf } from '../../usage/usage-steps.ts';
import { prepareBatch } from '../statement.ts';
import type { KeyUsageRow, Tables, TenantUsageRow } from '../tables.ts';
import { countPlus, soundCount, sumOfCounts } from './sql-usage-numbers.ts';

/** A row type as an object type, which has the index signature that `statement` asks for. */
export type Values<T> = { readonly [Name in keyof T]: T[Name] };
/** Statements that add rows to what is stored. */
export type AddRows<T> = (rows: readonly Values<T>[]) => readonly CompiledQuery<unknown>[];

const OF_KEYS: readonly UsageStep[] = ['hour', 'day'];
const OF_TENANTS: readonly UsageStep[] = ['minute', 'hour', 'day'];

export function compileAddToKeys(db: Kysely<Tables>): AddRows<KeyUsageRow> {
  return prepareBatch<Values<KeyUsageRow>>(['tenant_id', 'key_id', 'step', 'since', 'outcome', 'count'], (rows) =>
    db
      .insertInto('key_usage')
      .values([...rows])
      .onConflict((conflict) =>
        conflict
          .columns(['key_id', 'step', 'since', 'outcome'])
          .doUpdateSet((eb) => ({ count: countPlus(eb.ref('key_usage.count'), eb.ref('excluded.count')) })),
      ),
  );
}

export function compileAddToTenants(db: Kysely<Tables>): AddRows<TenantUsageRow> {
  return prepareBatch<Values<TenantUsageRow>>(['tenant_id', 'step', 'since', 'outcome', 'count'], (rows) =>
    db
      .insertInto('tenant_usage')
      .values([...rows])
      .onConflict((conflict) =>
        conflict
          .columns(['tenant_id', 'step', 'since', 'outcome'])
          .doUpdateSet((eb) => ({ count: countPlus(eb.ref('tenant_usage.count'), eb.ref('excluded.count')) })),
      ),
  );
}

/** What a batch adds for its keys, each row once, in one order everywhere. */
export function keySums(counts: readonly UsageCount[]): readonly Values<KeyUsageRow>[] {
  return added(
    counts.flatMap((one) =>
      OF_KEYS.map((step) => ({
        tenant_id: one.tenantId,
        key_id: one.keyId,
        step,
        since: stepOf(one.minute, step),
        outcome: one.outcome,
        count: one.count,
      })),
    ),
    ({ key_id, step, since, outcome }) => `${key_id} ${step} ${since} ${outcome}`,
  );
}

/** The same for its tenants. */
export function tenantSums(counts: readonly UsageCount[]): readonly Values<TenantUsageRow>[] {
  return added(
    counts.flatMap((one) =>
      OF_TENANTS.map((step) => ({
        tenant_id: one.tenantId,
        step,
        since: stepOf(one.minute, step),
        outcome: one.outcome,
        count: one.count,
      })),
    ),
    ({ tenant_id, step, since, outcome }) => `${tenant_id} ${step} ${since} ${outcome}`,
  );
}

/** Rows of one name become one. Two batches that meet then wait for each other in turn, and never both at once. */
function added<R extends { readonly count: number }>(rows: readonly R[], nameOf: (row: R) => string): readonly R[] {
  const byName = new Map<string, R>();
  for (const row of rows) {
    const name = nameOf(row);
    const known = byName.get(name);
    byName.set(name, known === undefined ? row : { ...known, count: known.count + row.count });
  }
  return [...byName].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, row]) => row);
}

/** Each a range of one index, in its order. */
export async function readSums(db: Kysely<Tables>, query: UsageQuery): Promise<readonly UsageSum[]> {
  const { tenantId, keyId, step, from, to } = query;
  const stored = sql<number>`count`;
  const range = sql`tenant_id = ${tenantId} and step = ${step} and since >= ${from} and since < ${to}`;
  if (keyId === null) {
    return (
      await sql<UsageSum>`
        select since as "from", outcome, ${soundCount(stored)} as count from tenant_usage
        where ${range} order by since, outcome`.execute(db)
    ).rows;
  }
  if (step !== 'minute') {
    return (
      await sql<UsageSum>`
        select since as "from", outcome, ${soundCount(stored)} as count from key_usage
        where key_id = ${keyId} and ${range} order by since, outcome`.execute(db)
    ).rows;
  }
  return (
    await sql<UsageSum>`
      select minute as "from", outcome, ${sumOfCounts(stored)} as count from usage_counts
      where key_id = ${keyId} and tenant_id = ${tenantId} and minute >= ${from} and minute < ${to}
      group by minute, outcome order by minute, outcome`.execute(db)
  ).rows;
}

/** Deletes the oldest counts of a step; answers how many. */
export async function pruneStep(
  transaction: Transaction<Tables>,
  step: UsageStep,
  { before, limit }: { readonly before: number; readonly limit: number },
): Promise<number> {
  const ofKeys =
    step === 'minute'
      ? sql`
          delete from usage_counts where (key_id, minute, version, outcome) in (
            select key_id, minute, version, outcome from usage_counts
            where minute < ${before} order by minute limit ${limit})`
      : sql`
          delete from key_usage where (key_id, step, since, outcome) in (
            select key_id, step, since, outcome from key_usage
            where step = ${step} and since < ${before} order by since limit ${limit})`;
  const deleted = Number((await ofKeys.execute(transaction)).numAffectedRows ?? 0n);
  const left = limit - deleted;
  if (left === 0) return deleted;
  const ofTenants = await sql`
    delete from tenant_usage where (tenant_id, step, since, outcome) in (
      select tenant_id, step, since, outcome from tenant_usage
      where step = ${step} and since < ${before} order by since limit ${left})`.execute(transaction);
  return deleted + Number(ofTenants.numAffectedRows ?? 0n);
}
