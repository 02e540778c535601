/**
 * Stores when the service looks at a key again. Written with changes of the key, by the job, and when an awaited use is
 * stored.
 */
import { type Expression, type ExpressionBuilder, type Kysely, type SqlBool, sql, type Transaction } from 'kysely';
import type { KeyScheduleRows, ScheduledKey } from '../../api-keys/key-schedule-rows.ts';
import { operational } from '../../events/write-lanes.ts';
import { type AsStored, undamaged } from '../../schema/as-stored.ts';
import type { KeyScheduleRow, KeyScheduleWrite } from '../../schema/key-schedule-row.ts';
import type { PendingUsage } from '../../usage/usage-rows.ts';
import { withDamagedRows } from '../damaged-integers.ts';
import type { SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';

type Planned = Extract<KeyScheduleWrite, { kind: 'planned' }>;

const NOTHING_ANNOUNCED = { announced: null, expiryAnnounced: null } as const;

const NOTHING_KNOWN = { isScheduled: true, awaitsUseOf: null, resetsAnnouncements: true } as const;

/** A time in the past, so that the next run of the job looks at the key. So is each smaller number. */
const LOOK_IN_NEXT_RUN = 0;
/** The smallest of them that is counted down to. Smaller ones are damage. */
const LOOK_IN_NEXT_RUN_MIN = -1_000_000_000;
/** A later time is damaged. */
const LOOK_AT_MAX = Number.MAX_SAFE_INTEGER;

/** Written by the ledger, in the transaction of the change. */
export async function writeKeySchedule(transaction: Transaction<Tables>, write: KeyScheduleWrite): Promise<void> {
  if (write.kind === 'ended') {
    await transaction.deleteFrom('key_schedules').where('key_id', '=', write.keyId).execute();
    return;
  }
  const row = toRow(write);
  if (write.kind === 'planned') {
    await transaction
      .updateTable('key_schedules')
      .set({
        ...row,
        look_at: sql`case when look_at is not distinct from ${write.lookAtRead} then ${row.look_at} else look_at end`,
      })
      .where('key_id', '=', write.keyId)
      .execute();
    return;
  }
  if (write.kind === 'created') {
    await transaction
      .insertInto('key_schedules')
      .values(row)
      .onConflict((conflict) => conflict.column('key_id').doUpdateSet(row))
      .execute();
    return;
  }
  const set = {
    revision: row.revision,
    look_at: LOOK_IN_NEXT_RUN,
    ...(write.awaitsUseOf !== null && { awaits_use_of: write.awaitsUseOf }),
    ...(write.resetsAnnouncements && { announced: null, announced_version: null, announced_since: null }),
  };
  if (!write.isScheduled && write.awaitsUseOf === null) {
    // Nothing more is due for this key, but the schedule may have a row of it from before.
    await transaction.updateTable('key_schedules').set(set).where('key_id', '=', write.keyId).execute();
    return;
  }
  await transaction
    .insertInto('key_schedules')
    .values(row)
    .onConflict((conflict) => conflict.column('key_id').doUpdateSet(set))
    .execute();
}

/**
 * Called in the transaction that stores uses: the next run of the job looks at the keys whose awaited version was used. Each
 * use changes the time, so that a look that read the row before does not replace it.
 */
export async function lookAtUsed(
  transaction: Transaction<Tables>,
  dialect: SqlDialect,
  uses: readonly PendingUsage[],
): Promise<void> {
  const used = uses.filter((use) => use.count > 0);
  if (used.length === 0) return;
  // Every transaction that locks several rows does so in the order of `key_id`, so that no two wait for each other.
  const awaited = await dialect
    .lockRows(
      // A damaged row must not prevent the uses of other keys from being stored.
      withDamagedRows(transaction)
        .selectFrom('key_schedules')
        .select(['key_id', 'awaits_use_of'])
        .where((eb) => dialect.isAmong(eb.ref('key_id'), [...new Set(used.map((use) => use.keyId))]))
        .where('awaits_use_of', 'is not', null)
        .orderBy('key_id'),
    )
    .execute();
  for (const { key_id: keyId, awaits_use_of: version } of awaited) {
    // A damaged number may have been that of the version that was used.
    const isAwaited = used.some(
      (use) => use.keyId === keyId && (use.version === version || typeof version === 'bigint'),
    );
    if (!isAwaited) continue;
    const isInNextRun = sql<boolean>`look_at between ${LOOK_IN_NEXT_RUN_MIN} and ${LOOK_IN_NEXT_RUN}`;
    const lookAt = sql<number>`case when ${isInNextRun} then look_at - 1 else ${LOOK_IN_NEXT_RUN} end`;
    await transaction.updateTable('key_schedules').set({ look_at: lookAt }).where('key_id', '=', keyId).execute();
  }
}

export class SqlKeyScheduleRows implements KeyScheduleRows {
  readonly #read: Kysely<Tables>;
  readonly #scan: Kysely<Tables>;
  readonly #writer: WriteQueue;

  constructor(parts: {
    readonly read: Kysely<Tables>;
    readonly scan: Kysely<Tables>;
    readonly writer: WriteQueue;
  }) {
    this.#read = parts.read;
    this.#scan = parts.scan;
    this.#writer = parts.writer;
  }

  async isAnyDue(now: number): Promise<boolean> {
    const due = this.#read.selectFrom('key_schedules').select(sql.lit(1).as('due')).where(isDue(now));
    return (await due.limit(1).executeTakeFirst()) !== undefined;
  }

  async due(
    now: number,
    { exceptTenants, limit }: { readonly exceptTenants: readonly string[]; readonly limit: number },
  ): Promise<readonly ScheduledKey[]> {
    let all = withDamagedRows(this.#scan).selectFrom('key_schedules').selectAll();
    if (exceptTenants.length > 0) all = all.where('tenant_id', 'not in', [...exceptTenants]);
    const inOrder = all.orderBy('look_at').orderBy('tenant_id').orderBy('key_id').limit(limit);
    // Two queries: with `or` in one, every row would be read in order.
    const due = await inOrder.where('look_at', '<=', now).execute();
    const damaged = due.length > 0 ? [] : await inOrder.where('look_at', '>', LOOK_AT_MAX).execute();
    const rows = [...due, ...damaged];
    return Promise.all(rows.map((row) => undamaged<KeyScheduleRow>({ ...row }) ?? this.#reset(row)));
  }

  /** Writes a damaged row anew, unless the key has changed meanwhile. What was announced is not known any more. */
  async #reset(damaged: AsStored<KeyScheduleRow>): Promise<ScheduledKey> {
    const { key_id: keyId, tenant_id: tenantId } = damaged;
    const row = toRow({ kind: 'changed', keyId, tenantId, revision: 0, ...NOTHING_KNOWN });
    await this.#writer.run(operational('key-schedules'), async (transaction) => {
      await transaction.updateTable('key_schedules').set(row).where(isUnchangedSince(damaged)).execute();
    });
    return { ...row, wasDamaged: true };
  }

  async plan(planned: Planned, read: ScheduledKey): Promise<void> {
    const row = toRow(planned);
    const isAnnounced = row.announced !== null || row.expiry_announced !== null;
    const isEmptyPlan = row.look_at === null && row.awaits_use_of === null && !isAnnounced;
    await this.#writer.run(operational('key-schedules'), async (transaction) => {
      if (isEmptyPlan) await transaction.deleteFrom('key_schedules').where(isUnchangedSince(read)).execute();
      else await transaction.updateTable('key_schedules').set(row).where(isUnchangedSince(read)).execute();
    });
  }
}

/** A damaged time is due too: the row is then written anew. */
function isDue(now: number) {
  return (eb: ExpressionBuilder<Pick<Tables, 'key_schedules'>, 'key_schedules'>): Expression<SqlBool> =>
    eb.or([eb('look_at', '<=', now), eb('look_at', '>', LOOK_AT_MAX)]);
}

function isUnchangedSince({ key_id, tenant_id, revision, look_at }: AsStored<KeyScheduleRow>) {
  return (eb: ExpressionBuilder<Tables, 'key_schedules'>): Expression<SqlBool> =>
    eb.and([
      eb('key_id', '=', key_id),
      eb('tenant_id', '=', tenant_id),
      eb('revision', '=', revision as number),
      eb('look_at', look_at === null ? 'is' : '=', look_at as number | null),
    ]);
}

function toRow(write: Exclude<KeyScheduleWrite, { kind: 'ended' }>): KeyScheduleRow {
  const { announced, expiryAnnounced } = write.kind === 'planned' ? write : NOTHING_ANNOUNCED;
  return {
    key_id: write.keyId,
    tenant_id: write.tenantId,
    revision: write.revision,
    look_at: write.kind === 'changed' ? LOOK_IN_NEXT_RUN : write.lookAt,
    awaits_use_of: write.kind === 'created' ? null : write.awaitsUseOf,
    announced: announced?.number ?? null,
    announced_version: announced?.version ?? null,
    announced_since: announced?.since ?? null,
    expiry_announced: expiryAnnounced?.distanceSeconds ?? null,
    expiry_announced_of: expiryAnnounced?.expiresAt ?? null,
  };
}
