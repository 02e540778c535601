/** Runs in a thread of its own: reads a whole SQLite file, and tells what is wrong with it. */
import { stat } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as pause } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { inspectPages } from './sqlite-inspection.ts';
import { WAL_BYTES_KEPT_MAX } from './sqlite-wal.ts';

/** What the thread is started with. */
export interface InspectionOrder {
  readonly path: string;
}

/** What it answers: what is wrong, or null; or that it could not look. */
export type InspectionAnswer =
  | { readonly wrong: string | null }
  | { readonly failed: string; readonly errcode: number };

/** How long a large WAL is waited for in all. The thread that makes it smaller looks ten times a second. */
const WAL_WAITS_MAX = 200;
const WAL_WAIT_MS = 50;
let walWaits = 0;

async function inspect({ path }: InspectionOrder): Promise<InspectionAnswer> {
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      for (const wrong of inspectPages(database)) {
        if (wrong !== null) return { wrong };
        await smallWal(path);
      }
      return { wrong: null };
    } finally {
      database.close();
    }
  } catch (error) {
    const { message, errcode = 0 } = error as Error & { readonly errcode?: number };
    return { failed: message, errcode };
  }
}

/** While nothing is read here: what a step kept from being copied, or was written meanwhile. Somebody else may read, too. */
async function smallWal(path: string): Promise<void> {
  for (; walWaits < WAL_WAITS_MAX; walWaits += 1) {
    const wal = await stat(`${path}-wal`).catch(() => null);
    if (wal === null || wal.size <= WAL_BYTES_KEPT_MAX) return;
    await pause(WAL_WAIT_MS);
  }
}

parentPort?.postMessage(await inspect(workerData as InspectionOrder));
