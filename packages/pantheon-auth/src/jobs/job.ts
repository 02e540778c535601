/** The definition of a background job: periodic work that one node at a time does for all. */
import type { LeaseHeld } from '../events/ledger.ts';
import type { Instant } from '../foundation/clock.ts';

export interface Job {
  /** Lower-case letters and dashes. The name of the lease, in metrics, and of the actor in events. Never reused. */
  readonly name: string;
  /** From the end of a run to the next one. */
  readonly everyMs: number;
  /** A longer run is aborted and counts as failed. */
  readonly runMsMax: number;
  /** Called before a lease is taken, so that a job without work writes nothing. Default: always needed. */
  readonly isNeeded?: () => Promise<boolean>;
  /** Runs in slices of a few milliseconds, between which it yields to the event loop. Must be safe to repeat. */
  run(run: JobRun): Promise<void>;
}

/** One run of a job. */
export interface JobRun {
  /** Aborted when the process stops, another node has taken over, or the run has taken too long. */
  readonly signal: AbortSignal;
  /** Whether `signal` is aborted, to be checked between two slices. */
  isEnding(): boolean;
  now(): Instant;
  /** A precondition for commits, so that a run that has lost its lease changes nothing. */
  readonly lease: LeaseHeld;
}

/** The status of a job on this node since the start of the process. */
export interface JobStatus {
  readonly name: string;
  /** Successful runs. */
  readonly successes: number;
  /** Runs that threw, took too long or lost their lease, and attempts when the database did not answer. */
  readonly failures: number;
  /** Duration of the last run, successful or not. Null: there was none. */
  readonly lastDurationMs: number | null;
  readonly lastSuccessAt: Date | null;
  readonly isRunning: boolean;
  /** Whether this node holds the lease now. */
  readonly holdsLease: boolean;
}
