/**
 * Looks an SQLite file through before it is used, on a connection that cannot write: closing it changes nothing, so a
 * restored file stays as it was restored. The start waits for a named time; a large file is read on in the background,
 * by a thread, and the damage that turns up later ends the use of the file.
 */
import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { LATE, withinMs } from '../../foundation/deadline.ts';
import { damaged } from './sqlite-damage.ts';
import { damageOf, isDamage } from './sqlite-errors.ts';
import { inspectLog, inspectPages } from './sqlite-inspection.ts';
import type { InspectionAnswer, InspectionOrder } from './sqlite-inspection-worker.ts';
import { SqliteWorkerFile } from './sqlite-worker-file.ts';

/** Read through at once, in some 40 ms: starting a thread takes as long. */
const INLINE_BYTES_MAX: number = 8 * 1_024 * 1_024;
/** How long a start waits for a larger file: 200 MB of it, or more where it is in the memory of the system. */
export const INSPECTION_WAIT_MAX_MS = 1_000;
const BUSY_TIMEOUT_MS = 1_000;

const WORKER = new SqliteWorkerFile<InspectionOrder>('sqlite-inspection-worker', 'pantheon-auth inspection');

export interface InspectionOptions {
  /** Absolute. */
  readonly path: string;
  /** Whether every page of a large file is looked at too. */
  readonly allPages: boolean;
  /** Told of damage that is found after the start. */
  readonly onFound: (what: string) => void;
  readonly onWarning: (warning: string) => void;
  /** Other bounds, for tests. */
  readonly inlineBytesMax?: number;
  readonly waitMaxMs?: number;
}

/** An inspection that may go on in the background. */
export interface Inspection {
  /** Ends it without a result. */
  stop(): void;
}

const DONE: Inspection = { stop: () => {} };

/** @throws PantheonError `store_unusable` when the file is damaged, with what to do. */
export async function inspectFile(options: InspectionOptions): Promise<Inspection> {
  const { path, allPages, inlineBytesMax = INLINE_BYTES_MAX } = options;
  // In this order: a WAL that another process is just making has a file that was written before it.
  const walBytes = sizeOf(`${path}-wal`);
  const fileBytes = sizeOf(path);
  // SQLite deletes a WAL whose file is empty, and with it the last that is left of the data.
  if (fileBytes === 0 && walBytes > 0) throw damaged(path, 'it is missing or empty, and its -wal is there');
  if (fileBytes === 0) return DONE;
  const isSmall = fileBytes + walBytes <= inlineBytesMax;
  inspectNow(
    path,
    (database) => inspectLog(database, walBytes > 0) ?? (isSmall ? firstWrong(inspectPages(database)) : null),
  );
  return allPages && !isSmall ? inspectInThread(options) : DONE;
}

function firstWrong(steps: Iterable<string | null>): string | null {
  for (const wrong of steps) if (wrong !== null) return wrong;
  return null;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function inspectNow(path: string, inspect: (database: DatabaseSync) => string | null): void {
  let wrong: string | null;
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(path, { readOnly: true });
    database.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`);
    database.exec('pragma trusted_schema = off');
    wrong = inspect(database);
  } catch (error) {
    if (isDamage(error)) throw damaged(path, damageOf(error), error);
    throw error;
  } finally {
    database?.close();
  }
  if (wrong !== null) throw damaged(path, wrong);
}

async function inspectInThread(options: InspectionOptions): Promise<Inspection> {
  const { path, onFound, onWarning, waitMaxMs = INSPECTION_WAIT_MAX_MS } = options;
  if (!WORKER.exists()) {
    onWarning(
      'sqlite-inspection-worker.js of pantheon-auth is missing, as in a bundle: a database as large as this is not ' +
        'checked for damage at the start. Keep pantheon-auth out of the bundle.',
    );
    return DONE;
  }
  const worker = WORKER.start({ path });
  const stop = (): void => void worker.terminate();
  const ended = new Promise<string | null>((resolve) => {
    worker.once('message', (answer: InspectionAnswer) => {
      if ('wrong' in answer) return resolve(answer.wrong);
      if (isDamage(Object.assign(new Error(answer.failed), answer))) return resolve(answer.failed);
      // Busy, say, or out of memory: no verdict on the file.
      onWarning(`the database could not be checked for damage: ${answer.failed}`);
      resolve(null);
    });
    worker.once('error', (error: Error) => {
      onWarning(`the database could not be checked for damage: ${error.message}`);
      resolve(null);
    });
  });
  const first = await withinMs(waitMaxMs, ended);
  if (first === LATE) {
    worker.unref();
    void ended.then((wrong) => wrong !== null && onFound(wrong));
    return { stop };
  }
  if (first !== null) throw damaged(path, first);
  return DONE;
}
