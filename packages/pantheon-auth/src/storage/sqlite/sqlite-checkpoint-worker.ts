/**
 * The thread that copies the write-ahead log (WAL) of an SQLite file into the database, so that no commit of the main
 * thread has to. It opens the file for the first checkpoint and keeps it open. `sqlite-checkpoint-thread.ts` starts it
 * and sends it the requests.
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
  /** After a checkpoint of a WAL larger than this, the next writes overwrite its file from the beginning. */
  readonly bytesBeforeRestartMax: number;
}

export interface CheckpointOrder {
  /** Whether the file of the WAL is truncated too, unless another connection prevents it. */
  readonly cut: boolean;
  /** Whether to wait for readers, for {@link INSISTING_TIMEOUT_MS} at most, during which commits wait too. */
  readonly insists: boolean;
}

export type CheckpointRequest = ({ readonly kind: 'checkpoint' } & CheckpointOrder) | { readonly kind: 'close' };

/** `failed`: the message of the driver, with its extended result code. */
export type CheckpointAnswer = { readonly failed: null } | { readonly failed: string; readonly errcode: number };

/** Short, because the writers of this and other processes wait during this time. The next attempt follows soon. */
const BUSY_TIMEOUT_MS = 20;
/** For a WAL that would grow without end, because short reads overlap and one is always in progress. */
const INSISTING_TIMEOUT_MS = 200;

/** The result of `pragma wal_checkpoint`, in pages. */
interface Checkpointed {
  /** 1: another connection prevented the checkpoint. */
  readonly busy: number;
  /** The pages in the WAL. */
  readonly log: number;
  /** Those of them that are in the database now. */
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
 * First copies what is in the WAL, which no other connection has to wait for. Then, unless the WAL is small, copies
 * what was committed meanwhile and lets the next writes start at its beginning. Commits wait for this second step: they
 * try again later, and the event loop is not blocked. Without it the WAL would grow without end if commits are as fast
 * as copying.
 */
function checkpoint(database: DatabaseSync, { cut, insists }: CheckpointOrder): void {
  const { busy, log, checkpointed } = copy(database, 'passive');
  // Another process runs a checkpoint, or a reader uses an older snapshot: the second step could not finish, and commits
  // would wait for nothing.
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

/** @throws the error that SQLite itself reports if the file was replaced by another one. */
function assertSame(): void {
  if (isSame(identity, identityOf(path))) return;
  throw Object.assign(new Error('attempt to write a readonly database'), { errcode: READONLY_MOVED });
}
