/**
 * Copies the write-ahead log (WAL) of an SQLite file into the database (a checkpoint), in a thread of its own. On the
 * main thread, copying a large WAL would block the event loop for more than a second; in the reader thread it would
 * wait for long lists. The thread starts with the first checkpoint, does not keep the process alive while it is idle,
 * and is started again if it ended. `sqlite-wal.ts` decides when a checkpoint is due; `sqlite-checkpoint-worker.ts`
 * runs in the thread.
 */
import type { Worker } from 'node:worker_threads';
import type {
  CheckpointAnswer,
  CheckpointOrder,
  CheckpointRequest,
  CheckpointThreadData,
} from './sqlite-checkpoint-worker.ts';
import { SqliteWorkerFile } from './sqlite-worker-file.ts';

const WORKER = new SqliteWorkerFile<CheckpointThreadData>('sqlite-checkpoint-worker', 'pantheon-auth checkpoint');

/** `isLost`: the thread ended, or could not be started. */
export type CheckpointResult = CheckpointAnswer | { readonly isLost: true };

export class SqliteCheckpointThread {
  readonly #data: CheckpointThreadData;
  #worker: Worker | null = null;
  #waiting: ((result: CheckpointResult) => void) | null = null;

  constructor(data: CheckpointThreadData) {
    this.#data = data;
  }

  /** Whether the file of the thread is where it should be. */
  static isAvailable(): boolean {
    return WORKER.exists();
  }

  get isRunning(): boolean {
    return this.#worker !== null;
  }

  /** Runs one checkpoint. The caller waits for the result before the next one. Never throws. */
  checkpoint(order: CheckpointOrder): Promise<CheckpointResult> {
    return new Promise((resolve) => {
      this.#waiting = resolve;
      try {
        this.#worker ??= this.#start();
        // While an answer is awaited, the thread keeps the process alive; an idle thread does not.
        this.#worker.ref();
        this.#worker.postMessage({ kind: 'checkpoint', ...order } satisfies CheckpointRequest);
      } catch {
        this.#settle({ isLost: true });
      }
    });
  }

  /** Waits for the checkpoint in progress and ends the thread. */
  async close(): Promise<void> {
    const worker = this.#worker;
    if (worker === null) return;
    worker.ref();
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    worker.postMessage({ kind: 'close' } satisfies CheckpointRequest);
    await ended;
  }

  #start(): Worker {
    const worker = WORKER.start(this.#data);
    worker.on('message', (answer: CheckpointAnswer) => this.#settle(answer));
    worker.on('error', () => this.#end(worker));
    worker.on('exit', () => this.#end(worker));
    return worker;
  }

  #settle(result: CheckpointResult): void {
    this.#worker?.unref();
    this.#waiting?.(result);
    this.#waiting = null;
  }

  #end(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    this.#settle({ isLost: true });
  }
}
