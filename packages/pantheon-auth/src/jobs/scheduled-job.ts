/**
 * One job on one node: when it is checked, the lease around each run, and retries after failures. Never two runs at
 * once in a process, whatever happens to the lease.
 */
import { randomInt } from 'node:crypto';
import type { LeaseHeld } from '../events/ledger.ts';
import { type Instant, type NonDecreasingClock, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Job, JobStatus } from './job.ts';
import { type JobLease, type JobLeaseRows, type LeaseTimes, leaseStep } from './job-lease.ts';
import { RenewedLease } from './renewed-lease.ts';

/** The latest first check after a start. Short-lived processes (commands) usually end earlier. */
const FIRST_LOOK_MS_MAX = 10_000;
/** The wait after the first failure; doubled with each further one. */
const BACKOFF_MS_MIN: number = SECOND_MS;
/** The longest wait after failures, or the interval of the job if that is longer. */
const BACKOFF_MS_MAX = 300_000;
/** Waits are shortened randomly by up to this share, so that nodes do not check at the same time. */
const JITTER = 0.1;
/** Nodes that wait for the same time check at random up to this much later. */
const LATER_MS_MAX: number = SECOND_MS;

export interface ScheduledJobDeps {
  readonly rows: JobLeaseRows;
  readonly clock: Pick<NonDecreasingClock, 'now' | 'monotonicMs' | 'timers'>;
  readonly nodeId: string;
  readonly times: LeaseTimes;
  /** Called for each failure. Must not throw. */
  readonly onFailure: (job: string, error: unknown) => void;
}

/** A run with its lease. */
interface BegunRun {
  readonly lease: LeaseHeld;
  /** When the lease was requested. */
  readonly takenMs: number;
  /** Failed runs before it, on any node. */
  readonly failures: number;
  /** The wait until the next run after a success. */
  readonly everyMs: number;
}

export class ScheduledJob {
  readonly #job: Job;
  readonly #deps: ScheduledJobDeps;
  readonly #closing = new AbortController();
  #cancelTimer = (): void => {};
  #attempt: Promise<void> = Promise.resolve();
  #running: RenewedLease | null = null;
  #successes = 0;
  #failures = 0;
  #failuresInARow = 0;
  /** The lease held between two runs. */
  #idle: { readonly lease: LeaseHeld; readonly dueAt: Instant } | null = null;
  /** The last failure that was reported while its run continued. */
  #toldOf: unknown = null;
  #lastDurationMs: number | null = null;
  #lastSuccessAt: Date | null = null;
  #heldUntilMs: number = Number.NEGATIVE_INFINITY;

  constructor(job: Job, deps: ScheduledJobDeps) {
    this.#job = job;
    this.#deps = deps;
  }

  start(): void {
    this.#schedule(jittered(Math.min(this.#job.everyMs, FIRST_LOOK_MS_MAX), 0.5));
  }

  status(): JobStatus {
    return {
      name: this.#job.name,
      successes: this.#successes,
      failures: this.#failures,
      lastDurationMs: this.#lastDurationMs,
      lastSuccessAt: this.#lastSuccessAt,
      isRunning: this.#running !== null,
      holdsLease: this.#deps.clock.monotonicMs() < (this.#running?.heldUntilMs ?? this.#heldUntilMs),
    };
  }

  /** Aborts a running job and waits for it. Releases a lease that is held between two runs. */
  async close(): Promise<void> {
    this.#closing.abort(new PantheonError('shutting_down'));
    this.#cancelTimer();
    await this.#attempt;
    const idle = this.#idle;
    this.#idle = null;
    if (idle === null) return;
    const end = { now: this.#deps.clock.now(), dueAt: idle.dueAt, holdMs: 0, failures: 0 };
    // If the database does not answer, the lease expires.
    await this.#deps.rows.end(idle.lease, end).catch(() => false);
  }

  #schedule(ms: number): void {
    if (this.#closing.signal.aborted) return;
    this.#cancelTimer = this.#deps.clock.timers.after(ms, () => {
      this.#attempt = this.#look();
    });
  }

  /** Runs the job if this node may, and schedules the next check. */
  async #look(): Promise<void> {
    const job = this.#job;
    const waitMsMax = this.#waitMsMax;
    const { rows, clock, nodeId, times } = this.#deps;
    let waitMs = jittered(job.everyMs);
    try {
      if (job.isNeeded === undefined || (await job.isNeeded())) {
        const now = clock.now();
        const stored = await rows.find(job.name, now);
        const step = leaseStep(stored, { nodeId, now, waitMsMax, times });
        if (step.kind === 'wait') waitMs = Math.min(step.forMs, job.everyMs) + randomInt(0, LATER_MS_MAX);
        else waitMs = await this.#begin(stored, step.failures, waitMs);
      }
    } catch (error) {
      // The database does not answer, so the job was not run.
      waitMs = this.#failed(error, this.#failuresInARow);
    }
    this.#schedule(waitMs);
  }

  async #begin(stored: JobLease | null, failures: number, everyMs: number): Promise<number> {
    const { rows, clock, nodeId, times } = this.#deps;
    if (this.#closing.signal.aborted) return 0;
    const takenMs = clock.monotonicMs();
    this.#idle = null;
    const hold = { nodeId, holdMs: times.runHoldMs, now: clock.now() };
    const fence = await rows.take(this.#job.name, stored, hold);
    // Another node took the lease.
    if (fence === null) return Math.min(this.#job.everyMs, times.graceMs);
    const lease = { kind: 'lease', name: this.#job.name, nodeId, fence } as const;
    if (this.#closing.signal.aborted) {
      // The process began to stop while taking the lease.
      await this.#end(lease, { waitMs: 0, holdMs: 0, failures });
      return 0;
    }
    return this.#run({ lease, takenMs, failures, everyMs });
  }

  /** One run, and the end of its lease. Returns the wait until the next check. */
  async #run(run: BegunRun): Promise<number> {
    const { clock, times } = this.#deps;
    const { lease, failures, everyMs } = run;
    const error = await this.#runHeld(run);
    if (this.#closing.signal.aborted) {
      await this.#end(lease, { waitMs: 0, holdMs: 0, failures });
      return 0;
    }
    if (error !== null) {
      const waitMs = this.#failed(error, failures);
      // The lease is released, because the run may succeed on another node.
      await this.#end(lease, { waitMs, holdMs: 0, failures: failures + 1 });
      return waitMs + LATER_MS_MAX;
    }
    this.#successes += 1;
    this.#failuresInARow = 0;
    this.#lastSuccessAt = new Date(clock.now());
    this.#idle = { lease, dueAt: clock.now() + everyMs };
    await this.#end(lease, { waitMs: everyMs, holdMs: everyMs + times.graceMs, failures: 0 });
    return everyMs;
  }

  /** Runs the job while its lease is renewed. Returns the error; null: success. */
  async #runHeld({ lease, takenMs }: BegunRun): Promise<unknown> {
    const { rows, clock, times } = this.#deps;
    const { name, runMsMax } = this.#job;
    const startedMs = clock.monotonicMs();
    const ending = new AbortController();
    const onClosing = (): void => ending.abort(this.#closing.signal.reason);
    const onLost = (): void =>
      ending.abort(new PantheonError('conflict', { detail: `The lease of the job ${name} was lost while it ran.` }));
    const onLate = (): void => {
      const error = new PantheonError('internal_error', { detail: `The job ${name} took more than ${runMsMax} ms.` });
      ending.abort(error);
      // If the run does not end when aborted, the lease is no longer renewed, and the failure is reported.
      this.#running?.stop();
      this.#toldOf = error;
      this.#tell(error);
    };
    this.#closing.signal.addEventListener('abort', onClosing);
    const cancelBound = clock.timers.after(runMsMax, onLate);
    this.#running = new RenewedLease(lease, takenMs, { rows, clock, holdMs: times.runHoldMs, onLost });
    let thrown: unknown = null;
    try {
      const { signal } = ending;
      await this.#job.run({ signal, isEnding: () => signal.aborted, now: () => clock.now(), lease });
    } catch (error) {
      thrown = error ?? new PantheonError('internal_error', { detail: `The job ${name} threw nothing.` });
    }
    this.#running.stop();
    this.#heldUntilMs = this.#running.heldUntilMs;
    this.#running = null;
    cancelBound();
    this.#closing.signal.removeEventListener('abort', onClosing);
    this.#lastDurationMs = clock.monotonicMs() - startedMs;
    // If the run was aborted, the reason of the abort is the error.
    return ending.signal.aborted ? ending.signal.reason : thrown;
  }

  /** Releases the lease. If that fails it expires by itself. */
  async #end(
    lease: LeaseHeld,
    { waitMs, holdMs, failures }: { readonly waitMs: number; readonly holdMs: number; readonly failures: number },
  ): Promise<void> {
    const { rows, clock } = this.#deps;
    const [now, askedMs] = [clock.now(), clock.monotonicMs()];
    try {
      const isHeld = await rows.end(lease, { now, dueAt: now + waitMs, holdMs, failures });
      this.#heldUntilMs = isHeld ? askedMs + holdMs : Number.NEGATIVE_INFINITY;
    } catch (error) {
      this.#deps.onFailure(this.#job.name, error);
    }
  }

  /** Returns how long to wait. `before`: failures in a row so far, on all nodes as far as known. */
  #failed(error: unknown, before: number): number {
    if (error !== this.#toldOf) this.#tell(error);
    this.#failuresInARow = before + 1;
    return jittered(Math.min(BACKOFF_MS_MIN * 2 ** before, this.#waitMsMax));
  }

  #tell(error: unknown): void {
    this.#failures += 1;
    if (!this.#closing.signal.aborted) this.#deps.onFailure(this.#job.name, error);
  }

  get #waitMsMax(): number {
    return Math.max(this.#job.everyMs, BACKOFF_MS_MAX);
  }
}

/** A random time between `ms` less `share` and `ms`. */
function jittered(ms: number, share: number = JITTER): number {
  const width = Math.floor(ms * share);
  return ms - (width === 0 ? 0 : randomInt(0, width + 1));
}
