/** Decides which node may run a job: one at a time, and not before it is due. The stored state is one row. Pure. */
import type { LeaseHeld } from '../events/ledger.ts';
import type { Instant } from '../foundation/clock.ts';

/** The stored state of a job. */
export interface JobLease {
  /** The node that runs it, or ran it last. */
  readonly nodeId: string;
  /** The number of the run. */
  readonly fence: number;
  /** No other node begins before this time, by the clock of the database. */
  readonly expiresAt: Instant;
  /** No node begins before this time, by its own clock. */
  readonly dueAt: Instant;
  /** Failed runs since the last success. */
  readonly failures: number;
}

export interface StoredLease extends JobLease {
  /** When it was read, by the clock of the database. */
  readonly storeNow: Instant;
}

export interface LeaseHold {
  readonly nodeId: string;
  /** How long from now no other node begins. */
  readonly holdMs: number;
  /** The clock of the node, which is also that of the database on the same machine. */
  readonly now: Instant;
}

export interface LeaseEnd extends Omit<LeaseHold, 'nodeId'> {
  readonly dueAt: Instant;
  readonly failures: number;
}

/** The port for leases. Implemented in `storage/rows/`. Each call is one transaction. */
export interface JobLeaseRows {
  /** Null: it has never run. */
  find(name: string, now: Instant): Promise<StoredLease | null>;
  /** Begins the next run, unless the lease has changed. Returns the number of the run; null: it has changed. */
  take(name: string, seen: JobLease | null, hold: LeaseHold): Promise<number | null>;
  /** False: another run has begun. */
  renew(lease: LeaseHeld, hold: Omit<LeaseHold, 'nodeId'>): Promise<boolean>;
  /** Ends the run. False: another run has begun. */
  end(lease: LeaseHeld, end: LeaseEnd): Promise<boolean>;
}

/** How long leases are held, and how late a job may run because of it. */
export interface LeaseTimes {
  /** A node renews the lease of a running job within this time; a dead or hanging node loses it. */
  readonly runHoldMs: number;
  /** How long the last node has priority once the job is due. */
  readonly graceMs: number;
}

/** 30 s is longer than a failover of PostgreSQL, or the pause of a migrated virtual machine. */
export const LEASE_TIMES: LeaseTimes = { runHoldMs: 30_000, graceMs: 15_000 };

/** What a node has to do about a job. */
export type LeaseStep =
  | { readonly kind: 'begin'; readonly failures: number }
  /** Check again after this time. */
  | { readonly kind: 'wait'; readonly forMs: number };

/**
 * `waitMsMax`: the longest wait for the next run. A date further ahead was written with a wrong clock and is ignored.
 */
export function leaseStep(
  stored: StoredLease | null,
  at: { readonly nodeId: string; readonly now: Instant; readonly waitMsMax: number; readonly times: LeaseTimes },
): LeaseStep {
  if (stored === null) return { kind: 'begin', failures: 0 };
  const dueInMs = within(stored.dueAt - at.now, at.waitMsMax);
  const isOurs = stored.nodeId === at.nodeId;
  const heldMsMax = at.waitMsMax + Math.max(at.times.graceMs, at.times.runHoldMs);
  const heldForMs = isOurs ? 0 : within(stored.expiresAt - stored.storeNow, heldMsMax);
  const forMs = Math.max(dueInMs, heldForMs);
  return forMs === 0 ? { kind: 'begin', failures: stored.failures } : { kind: 'wait', forMs };
}

/** 0 for the past, and for a value beyond the maximum. */
function within(ms: number, max: number): number {
  return ms <= 0 || ms > max ? 0 : ms;
}
