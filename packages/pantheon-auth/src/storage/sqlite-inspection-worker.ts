/** Runs in a thread of its own: reads a whole SQLite file, and tells what is wrong with it. */
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { inspectPages } from './sqlite-inspection.ts';

/** What the thread is started with. */
export interface InspectionOrder {
  readonly path: string;
}

/** What it answers: what is wrong, or null; or that it could not look. */
export type InspectionAnswer =
  | { readonly wrong: string | null }
  | { readonly failed: string; readonly errcode: number };

function inspect({ path }: InspectionOrder): InspectionAnswer {
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      return { wrong: inspectPages(database) };
    } finally {
      database.close();
    }
  } catch (error) {
    const { message, errcode = 0 } = error as Error & { readonly errcode?: number };
    return { failed: message, errcode };
  }
}

parentPort?.postMessage(inspect(workerData as InspectionOrder));
