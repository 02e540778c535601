/**
 * The jobs of a node. Any number of nodes on one store run the same jobs: a lease in the store sees to it that each runs
 * on one of them at a time (`job-lease.ts`), and moves it to another when its node is gone.
 */
import { invariant } from '../foundation/errors.ts';
import type { Job, JobStatus } from './job.ts';
import { LEASE_TIMES, type LeaseTimes } from './job-lease.ts';
import { ScheduledJob, type ScheduledJobDeps } from './scheduled-job.ts';

export interface JobRunnerDeps extends Omit<ScheduledJobDeps, 'times'> {
  /** {@link LEASE_TIMES} unless a test waits for them. */
  readonly times?: LeaseTimes;
}

export class JobRunner {
  readonly #deps: ScheduledJobDeps;
  readonly #jobs = new Map<string, ScheduledJob>();
  #isStarted = false;

  constructor(deps: JobRunnerDeps) {
    this.#deps = { times: LEASE_TIMES, ...deps };
  }

  /** Runs it from the start on, or from now on. */
  add(job: Job): void {
    invariant(NAME_PATTERN.test(job.name) && !this.#jobs.has(job.name), 'a job has a name of its own');
    const scheduled = new ScheduledJob(job, this.#deps);
    this.#jobs.set(job.name, scheduled);
    if (this.#isStarted) scheduled.start();
  }

  start(): void {
    this.#isStarted = true;
    for (const job of this.#jobs.values()) job.start();
  }

  /** In the order in which they were added. */
  status(): readonly JobStatus[] {
    return [...this.#jobs.values()].map((job) => job.status());
  }

  /**
   * Runs under way end after the slice that they are in, and leave their jobs to the other nodes. One that does not end
   * is not waited for without end: the database takes nothing of it once it is closed.
   */
  async close(): Promise<void> {
    const all = Promise.all([...this.#jobs.values()].map((job) => job.close()));
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#deps.clock.timers.after(CLOSE_WAIT_MS_MAX, resolve);
    });
    await Promise.race([all, late]);
    cancel();
  }
}

/** A slice takes milliseconds; the rest is for a store that is slow. */
const CLOSE_WAIT_MS_MAX = 5_000;
const NAME_PATTERN = /^[a-z]+(-[a-z]+)*$/;
