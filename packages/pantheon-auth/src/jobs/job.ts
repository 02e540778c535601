/** What a job in the background is: work that one node at a time does for all of them, again and again. */
import type { LeaseHeld } from '../events/ledger.ts';
import type { Instant } from '../foundation/clock.ts';

export interface Job {
  /** Lower-case letters and dashes. It names the lease, the metrics and the actor of what the job changes: never reused. */
  readonly name: string;
  /** From the end of a run to the next one. */
  readonly everyMs: number;
  /** A run that takes longer is told to end, and counts as failed. */
  readonly runMsMax: number;
  /** Asked before a lease is taken: a job that mostly finds nothing to do then writes nothing. Missing: always. */
  readonly isNeeded?: () => Promise<boolean>;
  /** In slices of a few milliseconds, between which the event loop turns. Repeating one must be safe. */
  run(run: JobRun): Promise<void>;
}

/** One run of a job. */
export interface JobRun {
  /** Aborted when the process stops, another node has taken over, or the run has taken too long. */
  readonly signal: AbortSignal;
  /** The same, to be asked between two slices. */
  isEnding(): boolean;
  now(): Instant;
  /** As a precondition of a commit: a run that lost its lease without knowing it then changes nothing. */
  readonly lease: LeaseHeld;
}

/** What a job did on this node since the start of the process. */
export interface JobStatus {
  readonly name: string;
  /** Runs that ended without an error. */
  readonly successes: number;
  /** Runs that threw, took too long or lost their lease; and attempts for which the store was away. */
  readonly failures: number;
  /** Of the last run, however it ended. Null: there was none. */
  readonly lastDurationMs: number | null;
  readonly lastSuccessAt: Date | null;
  readonly isRunning: boolean;
  /** No other node runs it at this moment. */
  readonly holdsLease: boolean;
}
