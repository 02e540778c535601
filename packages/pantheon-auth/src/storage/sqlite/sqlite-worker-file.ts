/** Starts the worker threads of the SQLite store. What runs in each is a file of its own, `sqlite-…-worker.ts`. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

/** The file of a thread, and how the thread is started. `Data`: what the thread is given. */
export class SqliteWorkerFile<Data extends object> {
  readonly #url: URL;
  readonly #threadName: string;

  /** @param fileName without its ending: `.ts` in the source, `.js` in a build. */
  constructor(fileName: `sqlite-${string}-worker`, threadName: string) {
    this.#url = new URL(`./${fileName}.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);
    this.#threadName = threadName;
  }

  /** Whether the file is there. A bundle usually does not contain it. */
  exists(): boolean {
    return this.#url.protocol === 'file:' && existsSync(fileURLToPath(this.#url));
  }

  /** Starts a thread without the environment, which may contain secrets, and without the Node flags of the process. */
  start(workerData: Data): Worker {
    const execArgv = ['--disable-warning=ExperimentalWarning'];
    return new Worker(this.#url, { workerData, name: this.#threadName, env: {}, execArgv });
  }
}
