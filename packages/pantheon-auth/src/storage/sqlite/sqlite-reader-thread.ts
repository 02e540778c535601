/**
 * Long reads of an SQLite file, outside of the main thread: `node:sqlite` is synchronous, so a list, a search or a report
 * that ran there would stop every verification meanwhile. Each statement sees everything that was committed before it was
 * sent. The thread starts with the first statement; what runs in it is `sqlite-reader-worker.ts`.
 */
import type { Worker } from 'node:worker_threads';
import {
  type CompiledQuery,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type Kysely,
  type QueryCompiler,
  type QueryResult,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import { PantheonError } from '../../foundation/errors.ts';
import { readsDamagedRows } from '../damaged-integers.ts';
import type { SqliteDamage } from './sqlite-damage.ts';
import { ReaderAdapter, STATEMENTS_KEPT_MAX } from './sqlite-dialect.ts';
import type {
  ReaderAnswer,
  ReaderFailure,
  ReaderRequest,
  ReaderRow,
  ReaderThreadData,
} from './sqlite-reader-worker.ts';
import { SqliteWorkerFile } from './sqlite-worker-file.ts';

/**
 * Statements that wait or run. Each belongs to a request, and a tenant has few of them at once (`read-turns.ts`), so this
 * many means that the disk does not keep up: turning away beats growing.
 */
export const READS_WAITING_MAX = 1_000;
/** Pages of lists end at a quarter of this, and reports and slices are far smaller: only a mistake of ours gets here. */
export const ANSWER_BYTES_MAX: number = 4 * 1_024 * 1_024;

const WORKER = new SqliteWorkerFile<ReaderThreadData>('sqlite-reader-worker', 'pantheon-auth reader');

export interface SqliteReaderThreadOptions {
  /** The database file, absolute. */
  readonly path: string;
  /** Sees the text of every statement before it is sent, never a value. */
  readonly onStatement: ((sql: string) => void) | null;
  /** What is known of damage to the file. From then on nothing is read. */
  readonly damage: SqliteDamage;
}

type Query = Omit<Extract<ReaderRequest, { kind: 'query' }>, 'id'>;
type Parameters = Query['parameters'];

interface Reads {
  /** Whether a damaged integer is a bigint, instead of failing the query. */
  readonly damagedRows?: boolean;
}

interface Waiting {
  readonly resolve: (rows: readonly ReaderRow[]) => void;
  readonly reject: (error: unknown) => void;
}

export class SqliteReaderThread {
  readonly #options: SqliteReaderThreadOptions;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | null = null;
  #lastId = 0;
  #isClosed = false;

  constructor(options: SqliteReaderThreadOptions) {
    this.#options = options;
  }

  /** Whether the file of the thread is where it should be. */
  static isAvailable(): boolean {
    return WORKER.exists();
  }

  /** Whether a thread is running. It starts when it is first asked something, and again after it has failed. */
  get isRunning(): boolean {
    return this.#worker !== null;
  }

  /** @throws PantheonError `overloaded`, `store_unavailable` also when the thread ended, `shutting_down`. */
  async query(sql: string, parameters: Parameters, reads: Reads = {}): Promise<readonly ReaderRow[]> {
    this.#options.damage.assertNone();
    this.#options.onStatement?.(sql);
    return this.#ask({ kind: 'query', sql, parameters, readsDamagedRows: reads.damagedRows ?? false });
  }

  /** Waits for what was asked, takes no more, and ends the thread. A second call waits too. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const worker = this.#worker;
    if (worker === null) return;
    worker.ref();
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    worker.postMessage({ kind: 'close' } satisfies ReaderRequest);
    await ended;
  }

  #ask(request: Query): Promise<readonly ReaderRow[]> {
    if (this.#isClosed) throw new PantheonError('shutting_down', { detail: 'The database is closed.' });
    if (this.#waiting.size >= READS_WAITING_MAX) throw new PantheonError('overloaded', { retryAfterSeconds: 1 });
    this.#worker ??= this.#start();
    const worker = this.#worker;
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      // The program goes on for as long as somebody waits for an answer, and no longer for the thread's sake.
      if (this.#waiting.size === 1) worker.ref();
      worker.postMessage({ ...request, id });
    });
  }

  #start(): Worker {
    const worker = WORKER.start({
      path: this.#options.path,
      statementsKeptMax: STATEMENTS_KEPT_MAX,
      answerBytesMax: ANSWER_BYTES_MAX,
    });
    worker.on('message', (answer: ReaderAnswer) => this.#settle(worker, answer));
    worker.on('messageerror', (error) => this.#end(worker, error));
    worker.on('error', (error) => this.#end(worker, error));
    worker.on('exit', () => this.#end(worker, null));
    return worker;
  }

  #settle(worker: Worker, answer: ReaderAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined) return;
    this.#waiting.delete(answer.id);
    if (this.#waiting.size === 0) worker.unref();
    if ('rows' in answer) waiting.resolve(answer.rows);
    else waiting.reject(this.#options.damage.toPantheonError(toError(answer.failure)));
  }

  /** Everyone who waits is told. The next statement starts another thread. */
  #end(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    void worker.terminate();
    const detail = 'The thread that reads the database ended.';
    const error = this.#isClosed
      ? new PantheonError('shutting_down', { detail, cause })
      : new PantheonError('store_unavailable', { detail, cause, retryAfterSeconds: 1 });
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }
}

function toError({ message, code, errcode }: ReaderFailure): Error {
  return Object.assign(new Error(message), { ...(code !== null && { code }), ...(errcode !== null && { errcode }) });
}

/** Kysely over the thread. It reads only, one statement at a time, so nobody waits for a connection. */
export class ReaderThreadDialect implements Dialect {
  readonly #thread: SqliteReaderThread;

  constructor(thread: SqliteReaderThread) {
    this.#thread = thread;
  }

  createAdapter(): DialectAdapter {
    return new ReaderAdapter();
  }

  createDriver(): Driver {
    return new ReaderThreadDriver(this.#thread);
  }

  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }

  createIntrospector(db: Kysely<unknown>): DatabaseIntrospector {
    return new SqliteIntrospector(db);
  }
}

class ReaderThreadDriver implements Driver {
  readonly #connection: DatabaseConnection;

  constructor(thread: SqliteReaderThread) {
    this.#connection = new ReaderThreadConnection(thread);
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection;
  }

  async beginTransaction(): Promise<void> {
    throw new Error('The reader has no transactions: each statement sees what was committed before it.');
  }

  async commitTransaction(): Promise<void> {}

  async rollbackTransaction(): Promise<void> {}

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {}
}

class ReaderThreadConnection implements DatabaseConnection {
  readonly #thread: SqliteReaderThread;

  constructor(thread: SqliteReaderThread) {
    this.#thread = thread;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const damagedRows = readsDamagedRows(query);
    const rows = await this.#thread.query(query.sql, query.parameters as Parameters, { damagedRows });
    return { rows: rows as R[] };
  }

  streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('Streaming would hold a snapshot; read in pages instead.');
  }
}
