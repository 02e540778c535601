/**
 * Who may run a job: one node at a time, and not before it is due. What is stored of it is one row; whether that row lets
 * a node begin is decided here, without I/O.
 */
import type { LeaseHeld } from '../events/ledger.ts';
import type { Instant } from '../foundation/clock.ts';

/** What is stored of a job. */
export interface JobLease {
  /** Who runs it, or ran it last. */
  readonly nodeId: string;
  /** The number of the run. */
  readonly fence: number;
  /** No other node begins before this, by the time of the store. */
  readonly expiresAt: Instant;
  /** Nobody begins before this, by the clocks of the nodes. */
  readonly dueAt: Instant;
  /** Runs that failed since the last that did not. */
  readonly failures: number;
}

export interface StoredLease extends JobLease {
  /** When it was read, by the time of the store. */
  readonly storeNow: Instant;
}

export interface LeaseHold {
  readonly nodeId: string;
  /** For so long from now no other node begins. */
  readonly holdMs: number;
  /** By the clock of the node: the time of the store, where that is on the same machine. */
  readonly now: Instant;
}

export interface LeaseEnd extends Omit<LeaseHold, 'nodeId'> {
  readonly dueAt: Instant;
  readonly failures: number;
}

/** The port. Implemented over SQL. Each call is one transaction. */
export interface JobLeaseRows {
  /** Null: it has never run. */
  find(name: string, now: Instant): Promise<StoredLease | null>;
  /** Begins the next run, unless the lease is another one than was seen. Answers the number of the run; null: it is. */
  take(name: string, seen: JobLease | null, hold: LeaseHold): Promise<number | null>;
  /** False: another run has begun. */
  renew(lease: LeaseHeld, hold: Omit<LeaseHold, 'nodeId'>): Promise<boolean>;
  /** The run is over. False: another one has begun. */
  end(lease: LeaseHeld, end: LeaseEnd): Promise<boolean>;
}

/** How long leases are held, and how late a job may be for it. */
export interface LeaseTimes {
  /** A node that runs a job renews its lease in time; one that is dead or stands still loses it after this. */
  readonly runHoldMs: number;
  /** The node that ran a job last has this long, once the job is due, to run it again before others may. */
  readonly graceMs: number;
}

/** 30 s: longer than a failover of PostgreSQL takes, or a pause of a machine that is moved. */
export const LEASE_TIMES: LeaseTimes = { runHoldMs: 30_000, graceMs: 15_000 };

/** What a node does about a job now. */
export type LeaseStep =
  | { readonly kind: 'begin'; readonly failures: number }
  /** Look again after this. */
  | { readonly kind: 'wait'; readonly forMs: number };

/**
 * `waitMsMax`: the longest that a job ever waits for its next run. A date that lies further ahead was written by a clock
 * that was wrong, and must not keep the job from running until then.
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

/** 0 for what is over, and for what cannot be. */
function within(ms: number, max: number): number {
  return ms <= 0 || ms > max ? 0 : ms;
}
