/**
 * Runs the jobs of a node. All nodes on a database have the same jobs; a lease in the database (`job-lease.ts`) ensures
 * that each job runs on one node at a time, and moves it when that node dies.
 */
import { withinMs } from '../foundation/deadline.ts';
import { invariant } from '../foundation/errors.ts';
import type { Job, JobStatus } from './job.ts';
import { LEASE_TIMES, type LeaseTimes } from './job-lease.ts';
import { ScheduledJob, type ScheduledJobDeps } from './scheduled-job.ts';

export interface JobRunnerDeps extends Omit<ScheduledJobDeps, 'times'> {
  /** Default: {@link LEASE_TIMES}. For tests. */
  readonly times?: LeaseTimes;
}

export class JobRunner {
  readonly #deps: ScheduledJobDeps;
  readonly #jobs = new Map<string, ScheduledJob>();
  #isStarted = false;

  constructor(deps: JobRunnerDeps) {
    this.#deps = { times: LEASE_TIMES, ...deps };
  }

  /** Adds a job, before or after the start. */
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
   * Ends running jobs after their current slice and releases their leases. Waits for them with a time limit; the
   * database refuses their commits once it is closed.
   */
  async close(): Promise<void> {
    const closed = Promise.all([...this.#jobs.values()].map((job) => job.close()));
    await withinMs(CLOSE_WAIT_MS_MAX, closed, this.#deps.clock.timers);
  }
}

/** A slice takes milliseconds; the rest is for a slow database. */
const CLOSE_WAIT_MS_MAX = 5_000;
const NAME_PATTERN = /^[a-z]+(-[a-z]+)*$/;
