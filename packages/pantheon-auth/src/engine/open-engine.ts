/**
 * Opens an engine: builds its parts in the order of their dependencies, then starts them, and closes them in reverse,
 * also when a start fails. Only the files of this folder choose implementations of ports.
 */
import { PROCESS_CALLER } from '../domain/caller.ts';
import { isBehind } from '../events/stored-time.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import { LogConsumers } from '../log-consumers/log-consumers.ts';
import { type AccessState, makeAccessState } from './access-state.ts';
import { type Foundations, openFoundations } from './foundations.ts';
import { type Managing, makeManaging } from './managing.ts';
import { openJobs } from './open-jobs.ts';
import { OpenedParts } from './opened-parts.ts';
import type { Logger, PantheonAuthOptions } from './options.ts';
import { makeVerifying, type Verifying } from './verifying.ts';

export interface Engine extends Foundations, AccessState, Verifying, Managing {
  readonly jobs: JobRunner;
  /** For other parts of this product. Applications read the audit log instead. */
  readonly consumers: LogConsumers;
  /** Stores usage counts, returns reserved quota, and closes the database. */
  close(): Promise<void>;
}

/** `mayBeBehind`: opens also with a clock behind the recorded time, which is about to be corrected. */
export async function openEngine(options: PantheonAuthOptions, mayBeBehind = false): Promise<Engine> {
  const opened = new OpenedParts();
  try {
    const base = await openFoundations(options, opened, mayBeBehind);
    const state = await makeAccessState(base);
    const verifying = makeVerifying(base, state);
    const managing = makeManaging(base, state, verifying);
    const { database, clock, logger } = base;
    const { events } = state;
    const jobs = openJobs(base, state, managing);
    const consumers = new LogConsumers({ jobs, cursors: database.logCursors, log: database.log, events, clock });

    opened.add(() => state.feed.close());
    await start(base, state, managing);
    opened.add(() => database.time.record(clock.now()).catch(warnOfTime(logger)));
    opened.add(() => Promise.all([verifying.recorder.close(), jobs.close()]).then(() => {}));
    opened.add(() => managing.propagation.close());
    // Otherwise this process only corrects the recorded time, and runs no jobs.
    if (!isBehind(base.reading)) jobs.start();
    return { ...base, ...state, ...verifying, ...managing, jobs, consumers, close: () => opened.close() };
  } catch (error) {
    // The first error is thrown; errors of closing are ignored.
    await opened.close().catch(() => {});
    throw error;
  }
}

async function start({ database, clock, logger }: Foundations, state: AccessState, managing: Managing): Promise<void> {
  // The feed first, so that no event after the load of the others is missed.
  await state.feed.start();
  await state.acceptedTime.start();
  await managing.tenants.start(PROCESS_CALLER.auditContext);
  await state.signingKeyChanges.start(PROCESS_CALLER.auditContext);
  await state.revocations.start();
  await state.idTags.start(PROCESS_CALLER.auditContext);
  const now = clock.now();
  const aheadForMs = clock.mayBeAheadForMs;
  await database.time.record(now, aheadForMs > 0 ? now + aheadForMs : null).catch((error: unknown) => {
    // A node must also start on a full disk, so that keys can be revoked.
    if (!(error instanceof PantheonError && error.code === 'store_full')) throw error;
    warnOfTime(logger)(error);
  });
}

function warnOfTime(logger: Logger): (error: unknown) => void {
  return (error) => logger.warn({ err: error }, 'the current time could not be recorded');
}
