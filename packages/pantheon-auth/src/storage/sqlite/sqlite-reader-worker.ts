/**
 * The thread in which long reads of an SQLite file run: one read-only connection, one statement at a time, in the order
 * in which they were sent. The other side is `sqlite-reader-thread.ts`.
 *
 * It imports little and nothing from packages, so that it starts fast and does not depend on how the program that uses the
 * library was started.
 */
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { readDamagedRows } from './sqlite-damaged-rows.ts';
import { addFunctions } from './sqlite-functions.ts';

/** How the thread is started. */
export interface ReaderThreadData {
  readonly path: string;
  /** Prepared statements that are kept. */
  readonly statementsKeptMax: number;
  /** An answer that would be larger than this is an error instead. */
  readonly answerBytesMax: number;
}

export type ReaderRequest =
  | {
      readonly kind: 'query';
      readonly id: number;
      readonly sql: string;
      readonly parameters: readonly SQLInputValue[];
      /** Whether a damaged integer is a bigint, instead of failing the query. */
      readonly readsDamagedRows: boolean;
    }
  | { readonly kind: 'close' };

export type ReaderRow = Record<string, SQLOutputValue>;

/** An error of the driver, in parts: what `sqlite-errors.ts` looks at. */
export interface ReaderFailure {
  readonly message: string;
  readonly code: string | null;
  readonly errcode: number | null;
}

export type ReaderAnswer =
  | { readonly id: number; readonly rows: readonly ReaderRow[] }
  | { readonly id: number; readonly failure: ReaderFailure };

/** This thread may wait for a lock: nobody else's work stops for it. */
const BUSY_TIMEOUT_MS = 1_000;

const { path, statementsKeptMax, answerBytesMax } = workerData as ReaderThreadData;
const prepared = new Map<string, StatementSync>();
let reader: DatabaseSync | null = null;

parentPort?.on('message', (request: ReaderRequest) => {
  if (request.kind === 'close') {
    reader?.close();
    parentPort?.close();
    return;
  }
  const { id, sql, parameters } = request;
  try {
    const statement = prepare(sql);
    const read = (): ReaderRow[] => rowsOf(statement, parameters);
    const rows = request.readsDamagedRows ? readDamagedRows(statement, read) : read();
    parentPort?.postMessage({ id, rows } satisfies ReaderAnswer);
  } catch (error) {
    parentPort?.postMessage({ id, failure: toFailure(error) } satisfies ReaderAnswer);
  }
});

function rowsOf(statement: StatementSync, parameters: readonly SQLInputValue[]): ReaderRow[] {
  const rows: ReaderRow[] = [];
  let bytes = 0;
  for (const row of statement.iterate(...parameters)) {
    bytes += sizeOf(row);
    if (bytes > answerBytesMax) throw new Error(`An answer of the reader is larger than ${answerBytesMax} bytes.`);
    rows.push(row);
  }
  return rows;
}

function prepare(sql: string): StatementSync {
  const known = prepared.get(sql);
  if (known !== undefined) return known;
  const statement = connection().prepare(sql);
  const oldest = prepared.size < statementsKeptMax ? undefined : prepared.keys().next().value;
  if (oldest !== undefined) prepared.delete(oldest);
  prepared.set(sql, statement);
  return statement;
}

function connection(): DatabaseSync {
  if (reader !== null) return reader;
  reader = new DatabaseSync(path, { readOnly: true });
  reader.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`);
  // A view or trigger that someone put into the file runs nothing that is not built in.
  reader.exec('pragma trusted_schema = off');
  addFunctions(reader);
  return reader;
}

/** About what a row takes as a message. */
function sizeOf(row: ReaderRow): number {
  let bytes = 0;
  for (const cell of Object.values(row))
    bytes += typeof cell === 'string' || ArrayBuffer.isView(cell) ? cell.length : 8;
  return bytes;
}

function toFailure(error: unknown): ReaderFailure {
  const { message, code, errcode } = error as { message?: unknown; code?: unknown; errcode?: unknown };
  return {
    message: String(message),
    code: typeof code === 'string' ? code : null,
    errcode: typeof errcode === 'number' ? errcode : null,
  };
}
