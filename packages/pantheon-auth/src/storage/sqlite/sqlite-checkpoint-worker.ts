/**
 * The thread that brings the write-ahead log (WAL) of an SQLite file into the database, so that no commit of the main
 * thread has to. It opens the file with the first order and holds it. The other side is `sqlite-checkpoint-thread.ts`.
 */
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { READONLY_MOVED } from './sqlite-errors.ts';
import { type FileIdentity, identityOf, isSame } from './sqlite-file-identity.ts';

/** What the thread is started with. */
export interface CheckpointThreadData {
  readonly path: string;
  /** The files that the writer of the main thread has open. */
  readonly identity: FileIdentity;
  /** A WAL that holds more than this is made to begin anew. */
  readonly bytesBeforeRestartMax: number;
}

export interface CheckpointOrder {
  /** Whether the file of the WAL is made empty too, as far as nobody is in the way. */
  readonly cut: boolean;
  /** Whether to wait for who is in the way, for {@link INSISTING_TIMEOUT_MS} at most: commits wait as long. */
  readonly insists: boolean;
}

export type CheckpointRequest = ({ readonly kind: 'checkpoint' } & CheckpointOrder) | { readonly kind: 'close' };

/** `failed`: the message of the driver, with its extended result code. */
export type CheckpointAnswer = { readonly failed: null } | { readonly failed: string; readonly errcode: number };

/** The writers of this and other processes wait meanwhile, so this is short. The next attempt comes soon. */
const BUSY_TIMEOUT_MS = 20;
/** For a WAL that short reads, each beginning before the last has ended, would let grow without end. */
const INSISTING_TIMEOUT_MS = 200;

/** Counted in pages. */
interface Checkpointed {
  /** 1: another connection was in the way, and nothing was done. */
  readonly busy: number;
  /** What was in the WAL when it began. */
  readonly log: number;
  /** What of it is in the database. */
  readonly checkpointed: number;
}

const { path, identity, bytesBeforeRestartMax } = workerData as CheckpointThreadData;
let connection: DatabaseSync | null = null;
let pageBytes = 0;

parentPort?.on('message', (request: CheckpointRequest) => {
  if (request.kind === 'close') {
    connection?.close();
    parentPort?.close();
    return;
  }
  parentPort?.postMessage(answer(request));
});

function answer(order: CheckpointOrder): CheckpointAnswer {
  try {
    checkpoint(opened(), order);
    return { failed: null };
  } catch (error) {
    const { message, errcode = 0 } = error as Error & { readonly errcode?: number };
    return { failed: message, errcode };
  }
}

/**
 * First the part that disturbs nobody: copying what was there. Then, of a WAL that is not small, what was committed
 * meanwhile, for which commits wait (they ask again, nothing is blocked), and the WAL begins anew. Without that it would
 * grow without end where commits are as fast as copying.
 */
function checkpoint(database: DatabaseSync, { cut, insists }: CheckpointOrder): void {
  const { busy, log, checkpointed } = copy(database, 'passive');
  // Another process copies, or somebody still reads an older state: the WAL cannot begin anew, and no commit waits for it.
  if (busy !== 0 || (checkpointed < log && !insists)) return;
  if (!cut && log * pageBytes <= bytesBeforeRestartMax) return;
  database.exec(`pragma busy_timeout = ${insists ? INSISTING_TIMEOUT_MS : BUSY_TIMEOUT_MS}`);
  copy(database, cut ? 'truncate' : 'restart');
}

function copy(database: DatabaseSync, mode: 'passive' | 'restart' | 'truncate'): Checkpointed {
  assertSame();
  return database.prepare(`pragma wal_checkpoint(${mode})`).get() as unknown as Checkpointed;
}

function opened(): DatabaseSync {
  if (connection !== null) return connection;
  assertSame();
  const database = new DatabaseSync(path);
  try {
    // Before the first statement, with which SQLite opens the WAL: closing a connection that has one may write it into
    // the database.
    assertSame();
    database.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`);
    database.exec('pragma trusted_schema = off');
    pageBytes = Number(database.prepare('select page_size as bytes from pragma_page_size').get()?.['bytes']);
    database.prepare('select count(*) from sqlite_schema').get();
  } catch (error) {
    database.close();
    throw error;
  }
  connection = database;
  return database;
}

/** @throws what SQLite itself says of a file that is another one by now. */
function assertSame(): void {
  if (isSame(identity, identityOf(path))) return;
  throw Object.assign(new Error('attempt to write a readonly database'), { errcode: READONLY_MOVED });
}
