/** The jobs of a node, on its database. Not started yet. */
import { KeyScheduleJob } from '../api-keys/key-schedule-job.ts';
import { MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import { parseDuration } from '../foundation/duration.ts';
import { newId } from '../foundation/ids.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { retentionJobs } from '../jobs/retention-jobs.ts';
import { keepSigningKeys } from '../jwt/signing-key-upkeep.ts';
import type { AccessState } from './access-state.ts';
import type { Foundations } from './foundations.ts';
import type { Managing } from './managing.ts';
import { expiryNoticesOf } from './options.ts';

/** How long a signing key signs before the standby key replaces it. */
const SIGNING_KEY_ROTATION_DEFAULT = '90d';

export function openJobs(base: Foundations, state: AccessState, { managerDeps }: Managing): JobRunner {
  const { database, clock, logger, options, keyPrefix } = base;
  const { events, keyring, signingKeyChanges: changes, keyStorage: storage, nextSecrets, cache } = state;
  const jobs = new JobRunner({
    rows: database.jobLeases,
    clock,
    nodeId: newId(),
    onFailure: (job, error) => logger.error({ err: error, job }, 'a job failed; it is tried again'),
  });
  for (const job of retentionJobs({ ...database, events, clock })) jobs.add(job);
  const rotation = options.signingKeyRotation ?? SIGNING_KEY_ROTATION_DEFAULT;
  const everyMs = rotation === 'off' ? null : (parseDuration(rotation) ?? 0) * SECOND_MS;
  jobs.add({
    name: 'signing-key-rotation',
    everyMs: 10 * MINUTE_MS,
    runMsMax: MINUTE_MS,
    run: (run) => keepSigningKeys({ keyring, changes, clock, everyMs }, run),
  });
  const schedule = new KeyScheduleJob({
    schedules: database.keySchedules,
    storage,
    nextSecrets,
    administrators: managerDeps.administrators,
    cache,
    usage: database.usage,
    ledger: database.ledger,
    events,
    clock,
    keyPrefix,
    expiryNotices: expiryNoticesOf(options),
    onError: (error, keyId) => logger.error({ err: error, keyId }, 'a key could not be looked at; it is tried again'),
  });
  jobs.add({
    name: 'key-schedule',
    everyMs: SECOND_MS,
    runMsMax: 10 * MINUTE_MS,
    isNeeded: () => schedule.isNeeded(),
    run: (run) => schedule.run(run),
  });
  return jobs;
}
