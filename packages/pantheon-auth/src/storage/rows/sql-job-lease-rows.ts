/** The leases of jobs. On PostgreSQL they run out by the time of the server, which is the same for every node. */
import { type Expression, type Kysely, sql, type Transaction, type UpdateObject } from 'kysely';
import type { LeaseHeld } from '../../events/ledger.ts';
import { operational } from '../../events/write-lanes.ts';
import type { Instant } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { JobLease, JobLeaseRows, LeaseEnd, LeaseHold, StoredLease } from '../../jobs/job-lease.ts';
import type { SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';

const QUEUE_KEY = operational('jobs');

export class SqlJobLeaseRows implements JobLeaseRows {
  readonly #read: Kysely<Tables>;
  readonly #writer: WriteQueue;
  readonly #dialect: SqlDialect;

  constructor(parts: { readonly read: Kysely<Tables>; readonly writer: WriteQueue; readonly dialect: SqlDialect }) {
    this.#read = parts.read;
    this.#writer = parts.writer;
    this.#dialect = parts.dialect;
  }

  async find(name: string, now: Instant): Promise<StoredLease | null> {
    const row = await this.#read
      .selectFrom('job_leases')
      .select(['node_id', 'fence', 'expires_at', 'due_at', 'failures'])
      .select(this.#storeTime(now).as('storeNow'))
      .where('name', '=', name)
      .executeTakeFirst();
    if (row === undefined) return null;
    return {
      nodeId: row.node_id,
      fence: row.fence,
      expiresAt: row.expires_at,
      dueAt: row.due_at,
      failures: row.failures,
      storeNow: row.storeNow,
    };
  }

  async take(name: string, seen: JobLease | null, { nodeId, holdMs, now }: LeaseHold): Promise<number | null> {
    return this.#writer.run(QUEUE_KEY, async (transaction) => {
      if (seen === null) {
        const made = await transaction
          .insertInto('job_leases')
          .values({ name, node_id: nodeId, fence: 1, expires_at: this.#after(now, holdMs), due_at: 0, failures: 0 })
          .onConflict((conflict) => conflict.column('name').doNothing())
          .returning('fence')
          .executeTakeFirst();
        return made?.fence ?? null;
      }
      const taken = await transaction
        .updateTable('job_leases')
        .set({ node_id: nodeId, fence: seen.fence + 1, expires_at: this.#after(now, holdMs) })
        .where('name', '=', name)
        .where('fence', '=', seen.fence)
        // A renewal leaves the number of the run as it is.
        .where('expires_at', '=', seen.expiresAt)
        .returning('fence')
        .executeTakeFirst();
      return taken?.fence ?? null;
    });
  }

  renew(held: LeaseHeld, { holdMs, now }: Omit<LeaseHold, 'nodeId'>): Promise<boolean> {
    return this.#updateHeld(held, { expires_at: this.#after(now, holdMs) });
  }

  end(held: LeaseHeld, { holdMs, now, dueAt, failures }: LeaseEnd): Promise<boolean> {
    return this.#updateHeld(held, { expires_at: this.#after(now, holdMs), due_at: Math.floor(dueAt), failures });
  }

  /** False: the run no longer has the lease. */
  #updateHeld({ name, nodeId, fence }: LeaseHeld, values: UpdateObject<Tables, 'job_leases'>): Promise<boolean> {
    return this.#writer.run(QUEUE_KEY, async (transaction) => {
      const { numUpdatedRows } = await transaction
        .updateTable('job_leases')
        .set(values)
        .where('name', '=', name)
        .where('node_id', '=', nodeId)
        .where('fence', '=', fence)
        .executeTakeFirstOrThrow();
      return numUpdatedRows === 1n;
    });
  }

  #after(now: Instant, ms: number): Expression<number> {
    return sql<number>`${this.#storeTime(now)} + ${sql.lit(Math.floor(ms))}`;
  }

  /** The server's own time; where the store is on this machine, that of the node. */
  #storeTime(now: Instant) {
    return sql<number>`coalesce(${this.#dialect.storeNow}, ${Math.floor(now)})`;
  }
}

/**
 * Whether the run still has its lease, which no other takes before the transaction ends.
 *
 * @throws PantheonError `conflict`.
 */
export async function assertLeaseHeld(
  transaction: Transaction<Tables>,
  dialect: SqlDialect,
  { name, nodeId, fence }: LeaseHeld,
): Promise<void> {
  const lease = transaction.selectFrom('job_leases').select(['node_id', 'fence']).where('name', '=', name);
  const row = await dialect.holdRows(lease).executeTakeFirst();
  if (row?.node_id !== nodeId || row.fence !== fence)
    throw new PantheonError('conflict', { detail: `Another run of the job ${name} has begun.` });
}
