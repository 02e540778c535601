/** Builds the jobs of a node, not started yet. */
import type { EventCodec } from '../events/event-codec.ts';
import type { NonDecreasingClock } from '../foundation/clock.ts';
import { newId } from '../foundation/ids.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { retentionJobs } from '../jobs/retention-jobs.ts';
import type { Database } from '../storage/database.ts';
import type { Logger } from './options.ts';

export function openJobs(
  database: Database,
  deps: { readonly events: EventCodec; readonly clock: NonDecreasingClock; readonly logger: Logger },
): JobRunner {
  const { events, clock, logger } = deps;
  const jobs = new JobRunner({
    rows: database.jobLeases,
    clock,
    nodeId: newId(),
    onFailure: (job, error) => logger.error({ err: error, job }, 'a job failed; it is tried again'),
  });
  for (const job of retentionJobs({ ...database, events, clock })) jobs.add(job);
  return jobs;
}
