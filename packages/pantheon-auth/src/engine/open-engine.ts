/**
 * Opens an engine: builds its parts from the bottom to the top, then starts them. What was opened is closed in reverse, also
 * when a start fails. The files of this folder are the only ones that pick implementations.
 */
import { PROCESS_CALLER } from '../commands/caller.ts';
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
  /** For parts of this product. Others read the audit log. */
  readonly consumers: LogConsumers;
  /** Stores what was counted, gives back what was reserved, closes the database. */
  close(): Promise<void>;
}

/** `mayBeBehind`: also with a clock that is behind the store's records, since it is about to be accepted. */
export async function openEngine(options: PantheonAuthOptions, mayBeBehind = false): Promise<Engine> {
  const opened = new OpenedParts();
  try {
    const base = await openFoundations(options, opened, mayBeBehind);
    const state = await makeAccessState(base);
    const verifying = makeVerifying(base, state);
    const managing = makeManaging(base, state, verifying);
    const { database, clock, logger } = base;
    const { events } = state;
    const jobs = openJobs(database, { events, clock, logger });
    const consumers = new LogConsumers({ jobs, cursors: database.logCursors, log: database.log, events, clock });

    opened.add(() => state.feed.close());
    await start(base, state, managing);
    opened.add(() => database.time.record(clock.now()).catch(warnOfTime(logger)));
    opened.add(() => Promise.all([verifying.recorder.close(), jobs.close()]).then(() => {}));
    opened.add(() => managing.propagation.close());
    // Else this node is here to accept a time, and does nothing of its own before that.
    if (!isBehind(base.reading)) jobs.start();
    return { ...base, ...state, ...verifying, ...managing, jobs, consumers, close: () => opened.close() };
  } catch (error) {
    // It is the first error that says what is wrong.
    await opened.close().catch(() => {});
    throw error;
  }
}

async function start({ database, clock, logger }: Foundations, state: AccessState, managing: Managing): Promise<void> {
  // The feed first, so that what the others load is followed from then on.
  await state.feed.start();
  await state.acceptedTime.start();
  await managing.tenants.start(PROCESS_CALLER.auditContext);
  await state.keyring.start(PROCESS_CALLER.auditContext);
  await state.revocations.start();
  await state.idTags.start(PROCESS_CALLER.auditContext);
  const now = clock.now();
  const aheadForMs = clock.mayBeAheadForMs;
  await database.time.record(now, aheadForMs > 0 ? now + aheadForMs : null).catch((error: unknown) => {
    // A node has to start on a full disk: what must be revoked is revoked there.
    if (!(error instanceof PantheonError && error.code === 'store_full')) throw error;
    warnOfTime(logger)(error);
  });
}

function warnOfTime(logger: Logger): (error: unknown) => void {
  return (error) => logger.warn({ err: error }, 'the time is not recorded');
}
