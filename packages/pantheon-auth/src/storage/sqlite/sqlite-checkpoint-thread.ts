/**
 * Brings the write-ahead log (WAL) of an SQLite file into the database, in a thread of its own: on the main thread copying
 * a large one would stop everything for a second and more, and behind the reader's lists it would wait. The thread starts
 * with the first order, keeps no program alive, and another one takes its place when it ends. When a checkpoint is due is
 * `sqlite-wal.ts`; what runs in the thread is `sqlite-checkpoint-worker.ts`.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type {
  CheckpointAnswer,
  CheckpointOrder,
  CheckpointRequest,
  CheckpointThreadData,
} from './sqlite-checkpoint-worker.ts';

/** Beside this file, as source and as built. A bundle that does not bring it along has none. */
const WORKER = new URL(`./sqlite-checkpoint-worker.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);

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
    return WORKER.protocol === 'file:' && existsSync(fileURLToPath(WORKER));
  }

  get isRunning(): boolean {
    return this.#worker !== null;
  }

  /** One at a time. Never throws. */
  checkpoint(order: CheckpointOrder): Promise<CheckpointResult> {
    return new Promise((resolve) => {
      this.#waiting = resolve;
      try {
        this.#worker ??= this.#start();
        // The program goes on for as long as an answer is awaited, and no longer for the thread's sake.
        this.#worker.ref();
        this.#worker.postMessage({ kind: 'checkpoint', ...order } satisfies CheckpointRequest);
      } catch {
        this.#settle({ isLost: true });
      }
    });
  }

  /** Waits for what was ordered, and ends the thread. */
  async close(): Promise<void> {
    const worker = this.#worker;
    if (worker === null) return;
    worker.ref();
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    worker.postMessage({ kind: 'close' } satisfies CheckpointRequest);
    await ended;
  }

  #start(): Worker {
    // It gets no environment, in which there may be secrets, and none of the flags that the program was started with.
    const worker = new Worker(WORKER, {
      workerData: this.#data,
      name: 'pantheon-auth checkpoint',
      env: {},
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
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
