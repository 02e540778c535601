/** Durable quota counts. Units are reserved here and spent in memory, so the limit is never exceeded (I8). */
import { operational, type QueueKey } from '../../events/write-lanes.ts';
import { invariant } from '../../foundation/errors.ts';
import type { QuotaLease, QuotaLedger } from '../../rate-limit/rate-limiter.ts';
import type { SqlDialect } from '../dialect.ts';
import type { WriteQueue } from '../write-queue.ts';

/**
 * Periods kept for each key: two months of days. Not only the current one, since a clock that ran ahead for a while
 * would otherwise have the count of the real period thrown away, and the quota granted twice.
 */
export const QUOTA_PERIODS_KEPT_MAX = 62;

export class SqlQuotaLedger implements QuotaLedger {
  readonly #writer: WriteQueue;
  readonly #dialect: SqlDialect;

  constructor(writer: WriteQueue, dialect: SqlDialect) {
    this.#writer = writer;
    this.#dialect = dialect;
  }

  async reserve(lease: QuotaLease, units: number): Promise<{ readonly granted: number; readonly left: number }> {
    assertUnits(units);
    return this.#writer.run(queueKeyOf(lease), async (transaction) => {
      const { numInsertedOrUpdatedRows: made } = await transaction
        .insertInto('quota_leases')
        .values({ tenant_id: lease.tenantId, key_id: lease.keyId, period: lease.period, reserved: 0 })
        .onConflict((conflict) => conflict.columns(['key_id', 'period']).doNothing())
        .executeTakeFirstOrThrow();
      if (made === 1n) {
        await transaction
          .deleteFrom('quota_leases')
          .where('key_id', '=', lease.keyId)
          .where('period', '<', (eb) =>
            eb
              .selectFrom('quota_leases')
              .select('period')
              .where('key_id', '=', lease.keyId)
              .orderBy('period', 'desc')
              .offset(QUOTA_PERIODS_KEPT_MAX - 1)
              .limit(1),
          )
          .execute();
      }
      const before = await this.#dialect
        .lockRows(
          transaction
            .selectFrom('quota_leases')
            .select('reserved')
            .where('key_id', '=', lease.keyId)
            .where('period', '=', lease.period),
        )
        .executeTakeFirst();
      // A period older than all that are kept is over: nothing of it is left to grant.
      if (before === undefined) return { granted: 0, left: 0 };
      const granted = Math.min(units, Math.max(0, lease.limit - before.reserved));
      await transaction
        .updateTable('quota_leases')
        .set((eb) => ({ reserved: eb('reserved', '+', granted) }))
        .where('key_id', '=', lease.keyId)
        .where('period', '=', lease.period)
        .execute();
      return { granted, left: Math.max(0, lease.limit - before.reserved - granted) };
    });
  }

  async release(lease: QuotaLease, units: number): Promise<void> {
    assertUnits(units);
    await this.#writer.run(queueKeyOf(lease), async (transaction) => {
      await transaction
        .updateTable('quota_leases')
        .set((eb) => ({ reserved: this.#dialect.greater(eb.val(0), eb('reserved', '-', units)) }))
        .where('key_id', '=', lease.keyId)
        .where('period', '=', lease.period)
        .execute();
    });
  }
}

/** A tenant whose keys all need units at once waits for itself. */
function queueKeyOf({ tenantId }: QuotaLease): QueueKey {
  return operational(`quota of ${tenantId}`);
}

function assertUnits(units: number): void {
  invariant(Number.isSafeInteger(units) && units >= 0, 'units are a whole number');
}
