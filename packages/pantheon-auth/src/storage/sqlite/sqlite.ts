/**
 * The SQLite database: a writer behind a queue, a reader that never waits for it (WAL), and two threads, for long reads
 * and for checkpoints.
 */
import { resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import type { Head } from '../../events/ledger.ts';
import type { Clock } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import { assemble, type Database } from '../database.ts';
import { LOG_HEAD_ID, sqlite } from '../dialect.ts';
import { migrate } from '../migrations/schema.ts';
import { SqlLogReader } from '../rows/sql-log-reader.ts';
import type { Tables } from '../tables.ts';
import { WriteQueue, type WriteReserve } from '../write-queue.ts';
import { withBusyRetries } from './busy-retry.ts';
import { DiskReserve, type DiskReserveOptions } from './disk-reserve.ts';
import { ReserveShares } from './reserve-shares.ts';
import { SqliteCheckpointThread } from './sqlite-checkpoint-thread.ts';
import { SqliteDamage } from './sqlite-damage.ts';
import { NodeSqliteDialect } from './sqlite-dialect.ts';
import { isDamage, toPantheonError } from './sqlite-errors.ts';
import { prepareFile, unusable } from './sqlite-file.ts';
import { identityOf } from './sqlite-file-identity.ts';
import { addFunctions } from './sqlite-functions.ts';
import { type Inspection, type InspectionOptions, inspectFile } from './sqlite-inspector.ts';
import { ReaderThreadDialect, SqliteReaderThread } from './sqlite-reader-thread.ts';
import { CommitCheckpoints, WAL_BYTES_LEFT_ALONE_MAX, WalKeeper } from './sqlite-wal.ts';

export interface SqliteOptions {
  /** The database file. Its folder exists; the file is made when it does not. */
  readonly path: string;
  readonly clock: Clock;
  /** Called with warnings for the operator. */
  readonly onWarning?: (warning: string) => void;
  /** How many keys a tenant may have that are not revoked. Default 1 000 000. */
  readonly keysPerTenantMax?: number | undefined;
  /** Told once when the file turns out to be damaged: nothing is read or written any more. */
  readonly onDamage?: (error: PantheonError) => void;
  /** Whether all of the file is read through at the start, to look for damage. Default: yes. */
  readonly checkPages?: boolean;
  /** Other bounds of that than ours, for tests. */
  readonly inspection?: Pick<InspectionOptions, 'inlineBytesMax' | 'waitMaxMs'>;
  /** Another size of the room that is kept for revocations, for tests. */
  readonly reserve?: Pick<DiskReserveOptions, 'bytes'>;
  /** Sees the text of every statement before it runs, never a value. For tests. */
  readonly onStatement?: (sql: string) => void;
}

/** There is one connection that writes. */
const WRITES_AT_ONCE = 1;
/** Cold reads under way at once. They are synchronous here, so this only bounds what waits behind them. */
const COLD_READS_MAX = 16;
/**
 * Reads that are shown wait for one reader thread: a few at once keep it busy, and the next one does not wait long. Reads
 * of commands are synchronous, so this only bounds how many are in progress.
 */
const READS_AT_ONCE = { shown: 8, commands: { ordinary: 16, protective: 16 } } as const;
/** Short, because the writer retries asynchronously instead of blocking the event loop. */
const WRITER_BUSY_TIMEOUT_MS = 2;
/**
 * A reader finds a lock only during the recovery of the WAL after a crash, and its synchronous head read cannot wait
 * asynchronously.
 */
const READER_BUSY_TIMEOUT_MS = 20;

/**
 * Opens the SQLite database at `path`, makes it when there is none, and brings its tables up to date.
 *
 * @throws PantheonError `store_unusable` with what is wrong and what to do, or `schema_too_new`.
 */
export async function openSqlite(options: SqliteOptions): Promise<Database> {
  const { clock } = options;
  if (options.path === '' || options.path.startsWith(':memory:')) {
    throw unusable(':memory:', 'a database in memory has one connection and we need two. Give the path of a file.');
  }
  // Absolute, so that it cannot be read as a `file:` URI.
  const path = resolve(options.path);
  const onWarning = (warning: string): void => options.onWarning?.(warning);
  prepareFile(path, onWarning);
  const damage = new SqliteDamage(path, (error) => options.onDamage?.(error));
  const reserve = new DiskReserve({ path: `${path}-reserve`, clock, onWarning, ...options.reserve });
  const open = (): Promise<Database> => openFile({ ...options, path }, damage, reserve);
  try {
    try {
      return await open();
    } catch (error) {
      // On a full disk SQLite cannot even make the files beside it that it reads with.
      if (!isFull(error) || !reserve.release()) throw error;
      return await open();
    }
  } catch (error) {
    await reserve.close();
    throw toOpenError(isDamage(error) ? damage.toPantheonError(error) : error, path);
  }
}

function isFull(error: unknown): boolean {
  const known = toPantheonError(error);
  return known instanceof PantheonError && known.code === 'store_full';
}

async function openFile(options: SqliteOptions, damage: SqliteDamage, reserve: DiskReserve): Promise<Database> {
  const { path, clock } = options;
  const opened: DatabaseSync[] = [];
  let inspection: Inspection | null = null;
  try {
    inspection = await inspectFile({
      path,
      allPages: options.checkPages ?? true,
      onFound: (what) => damage.found(what),
      onWarning: (warning) => options.onWarning?.(warning),
      ...options.inspection,
    });
    const { stop } = inspection;
    const writer = connect(opened, path, false, WRITER_BUSY_TIMEOUT_MS);
    await withBusyRetries(clock, () => configure(writer, path));
    const checkpoints = new CommitCheckpoints(writer, SqliteCheckpointThread.isAvailable());
    const onStatement = options.onStatement ?? null;
    const write = new Kysely<Tables>({
      dialect: new NodeSqliteDialect({ database: writer, clock, role: 'writer', onStatement, damage }),
    });
    await migrate({ db: write, dialect: sqlite, name: path });

    const reader = connect(opened, path, true, READER_BUSY_TIMEOUT_MS);
    addFunctions(reader);
    const read = new Kysely<Tables>({
      dialect: new NodeSqliteDialect({ database: reader, clock, role: 'reader', onStatement, damage }),
    });
    const connection = { db: write, atOnceMax: WRITES_AT_ONCE };
    reserve.start();
    const lanes = { ordinary: connection, protective: connection };
    const queue = new WriteQueue(lanes, clock, writeReserve(reserve, checkpoints, writer));
    const thread = new SqliteReaderThread({ path, onStatement, damage });
    const log = new SqlLogReader(read, sqlite, { headSync: headReader(reader, damage) });
    const wal = walKeeper(options, damage, checkpoints);
    return assemble({
      read,
      scan: scanner(thread, read, options),
      protectiveRead: read,
      writer: queue,
      dialect: sqlite,
      log,
      coldReadsMax: COLD_READS_MAX,
      readsAtOnce: READS_AT_ONCE,
      keysPerTenantMax: options.keysPerTenantMax,
      nodes: null,
      close: async () => {
        stop();
        await queue.close();
        await wal?.close();
        await thread.close();
        closeBoth(reader, writer, damage);
        await reserve.close();
      },
    });
  } catch (error) {
    inspection?.stop();
    for (const connection of opened) connection.close();
    throw error;
  }
}

/** The disk reserve as the write queue uses it, with checkpoints and shares of tenants. */
function writeReserve(reserve: DiskReserve, checkpoints: CommitCheckpoints, writer: DatabaseSync): WriteReserve {
  const pageSize = Number(writer.prepare('pragma page_size').get()?.['page_size']);
  const pages = writer.prepare('pragma page_count');
  const shares = new ReserveShares(reserve.bytes, () => Number(pages.get()?.['page_count']) * pageSize);
  return {
    isSpent: () => {
      const isSpent = reserve.isSpent();
      checkpoints.setFull(isSpent);
      shares.setSpent(isSpent);
      return isSpent;
    },
    release: () => {
      const hasRoom = makeRoom(reserve, checkpoints, writer);
      shares.setSpent(reserve.isSpent());
      return hasRoom;
    },
    admits: (key) => shares.admits(key),
    wrote: (key) => shares.wrote(key),
  };
}

/** Frees disk space for a write that found the disk full. Returns whether the write may be tried again. */
function makeRoom(reserve: DiskReserve, checkpoints: CommitCheckpoints, writer: DatabaseSync): boolean {
  const isGiven = reserve.release();
  checkpoints.setFull(true);
  try {
    // Copies the WAL into the database, so that the next write can overwrite the WAL instead of making it larger.
    writer.exec('pragma wal_checkpoint(passive)');
  } catch {
    return isGiven;
  }
  return true;
}

function connect(opened: DatabaseSync[], path: string, readOnly: boolean, busyTimeoutMs: number): DatabaseSync {
  const connection = new DatabaseSync(path, { readOnly });
  opened.push(connection);
  connection.exec(`pragma busy_timeout = ${busyTimeoutMs}`);
  // Views and triggers that somebody added to the file may call only built-in functions without side effects.
  connection.exec('pragma trusted_schema = off');
  return connection;
}

function configure(writer: DatabaseSync, path: string): void {
  const { journal_mode: mode } = { ...writer.prepare('pragma journal_mode = wal').get() };
  if (mode !== 'wal') throw unusable(path, 'its file system has no shared memory (WAL). Use a local disk.');
  writer.exec('pragma synchronous = full'); // Acknowledged means durable (I13), also when the power fails.
  writer.exec('pragma foreign_keys = on');
}

/**
 * Null if the file of the thread is missing, as in a bundle: then commits run checkpoints. The database must be open.
 */
function walKeeper(
  { path, onWarning = () => {} }: SqliteOptions,
  damage: SqliteDamage,
  checkpoints: CommitCheckpoints,
): WalKeeper | null {
  if (!SqliteCheckpointThread.isAvailable()) return null;
  const thread = new SqliteCheckpointThread({
    path,
    identity: identityOf(path),
    bytesBeforeRestartMax: WAL_BYTES_LEFT_ALONE_MAX,
  });
  const onThread = (hasThread: boolean): void => checkpoints.setThread(hasThread);
  return new WalKeeper({ path, thread, damage, onThread, onWarning });
}

/** Long reads have a thread of their own. */
function scanner(thread: SqliteReaderThread, read: Kysely<Tables>, { onWarning }: SqliteOptions): Kysely<Tables> {
  if (SqliteReaderThread.isAvailable()) return new Kysely<Tables>({ dialect: new ReaderThreadDialect(thread) });
  onWarning?.(
    'sqlite-reader-worker.js of pantheon-auth is missing, as in a bundle: lists and reports will stop the process while ' +
      'they are read. Keep pantheon-auth out of the bundle.',
  );
  return read;
}

function closeBoth(reader: DatabaseSync, writer: DatabaseSync, damage: SqliteDamage): void {
  if (damage.isFound) {
    // The last connection to close would write the WAL into the file, which may be a backup that was just put there. The
    // reader cannot.
    writer.close();
    reader.close();
    return;
  }
  reader.close();
  try {
    writer.exec('pragma wal_checkpoint(truncate)');
  } catch {
    // A full disk, say. What stays in the WAL is as durable as what is in the file, and is read at the next start.
  }
  writer.close();
}

/**
 * A prepared statement on the reader: about a microsecond without disk access, so that it can run before each
 * acceptance (I4).
 */
function headReader(reader: DatabaseSync, damage: SqliteDamage): () => Head {
  const statement = reader.prepare(
    `select seq, at, null as eventId, null as server, null as storeNow from log_head where id = ${LOG_HEAD_ID}`,
  );
  return () => {
    damage.assertNone();
    try {
      // The row is there: it is made with the table, whose check allows no other, and nothing deletes it.
      return statement.get() as unknown as Head;
    } catch (error) {
      throw damage.toPantheonError(error);
    }
  };
}

/** At the start every error becomes `store_unusable` with its cause. */
function toOpenError(error: unknown, path: string): unknown {
  const known = toPantheonError(error);
  if (!(known instanceof PantheonError)) return known;
  switch (known.code) {
    case 'store_read_only':
      return unusable(
        path,
        'cannot be written. Check the permissions and the owner of the file and its folder.',
        error,
      );
    case 'store_full':
      return unusable(path, 'the disk is full. Free some space.', error);
    case 'store_unavailable':
      return unusable(
        path,
        `cannot be opened (${known.message}). Check that it is our database and that nothing else holds it.`,
        error,
      );
    default:
      return known;
  }
}
