/**
 * Keeps the write-ahead log (WAL) of an SQLite file small without delaying commits. By default SQLite checkpoints a WAL
 * of 1 000 pages within a commit; after a long read this can take more than a second on the main thread. Here commits
 * only append, and a thread checkpoints, depending on the size of the WAL, also for writes of other processes.
 */
import { stat } from 'node:fs/promises';
import type { DatabaseSync } from 'node:sqlite';
import type { SqliteCheckpointThread } from './sqlite-checkpoint-thread.ts';
import type { SqliteDamage } from './sqlite-damage.ts';
import { isBusy } from './sqlite-errors.ts';

const MIB: number = 1_024 * 1_024;
/**
 * A WAL up to this size, which is also SQLite's own default, is not checkpointed. A larger one is copied into the
 * database, and the next writes overwrite its file from the beginning, which is faster than making the file larger.
 */
export const WAL_BYTES_LEFT_ALONE_MAX: number = 4 * MIB;
/** A WAL file larger than this is truncated. Until that is done, writes may make it larger still. */
export const WAL_BYTES_KEPT_MAX: number = 16 * MIB;
/**
 * Beyond this size the checkpoint waits for readers, and commits wait too, because overlapping short reads would
 * otherwise let it grow without end.
 */
export const WAL_BYTES_INSISTED: number = 64 * MIB;
/** Number of looks between two such checkpoints (1 s). */
const INSIST_LOOKS = 10;
/** How often the size of the WAL is read. A read takes some ten microseconds, outside of the main thread. */
const LOOK_EVERY_MS = 100;
/**
 * A file that is overwritten does not grow, so after this many looks (0.5 s) it is checkpointed without having grown.
 */
const COPY_LOOKS = 5;
/** After this many looks without a commit (2 s) truncating the file delays no commit. */
const QUIET_LOOKS = 20;

/** In pages of 4 KiB: the default of SQLite. */
const PAGES_WITHOUT_THREAD = 1_000;
/** The disk space reserved for revocations is 4 MiB, which a growing WAL must not use up. */
const PAGES_WHILE_FULL = 100;

/**
 * Sets after how many pages a commit of the writer runs a checkpoint itself, which blocks the main thread. Usually
 * never; only if there is no checkpoint thread, or if the disk is full, when the WAL has to be reused after every few
 * commits.
 */
export class CommitCheckpoints {
  readonly #writer: DatabaseSync;
  #hasThread: boolean;
  #isFull = false;
  #pages: number | null = null;

  constructor(writer: DatabaseSync, hasThread: boolean) {
    this.#writer = writer;
    this.#hasThread = hasThread;
    // Truncates the file after a checkpoint by a commit. With a thread, the thread truncates it.
    if (!hasThread) writer.exec(`pragma journal_size_limit = ${WAL_BYTES_KEPT_MAX}`);
    this.#apply();
  }

  setThread(hasThread: boolean): void {
    this.#hasThread = hasThread;
    this.#apply();
  }

  setFull(isFull: boolean): void {
    this.#isFull = isFull;
    this.#apply();
  }

  #apply(): void {
    const pages = this.#isFull ? PAGES_WHILE_FULL : this.#hasThread ? 0 : PAGES_WITHOUT_THREAD;
    if (pages === this.#pages) return;
    this.#writer.exec(`pragma wal_autocheckpoint = ${pages}`);
    this.#pages = pages;
  }
}

export interface WalKeeperOptions {
  /** The database file. */
  readonly path: string;
  readonly thread: SqliteCheckpointThread;
  readonly damage: SqliteDamage;
  /** Called after each checkpoint with whether the thread can run checkpoints. If it cannot, commits have to. */
  readonly onThread: (hasThread: boolean) => void;
  /** Called once when the thread cannot run checkpoints, and again only after one has succeeded in between. */
  readonly onWarning: (warning: string) => void;
}

export class WalKeeper {
  readonly #options: WalKeeperOptions;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | null = null;
  #isClosed = false;
  /** The size of the file when a checkpoint was last ordered; 0 after the file was small again. */
  #orderedBytes = 0;
  /** The modification time of the file, which is the time of the last commit. */
  #committedMs = 0;
  /** That time when a checkpoint was last ordered. */
  #orderedMs = 0;
  #looksSinceOrder = 0;
  #looksSinceCommit = 0;
  #looksSinceInsisting = INSIST_LOOKS;
  #looksToSkip = 0;
  #isFailing = false;

  constructor(options: WalKeeperOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** Runs a checkpoint if one is due, and waits for it, but not for readers that prevent it. Never throws. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** Runs a last checkpoint if the WAL is not small, so that closing the database is fast. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    this.#isClosed = true;
    await this.look();
    await this.#options.thread.close();
  }

  async #look(): Promise<void> {
    const { path, damage, thread, onThread } = this.#options;
    this.#looksToSkip -= 1;
    if (damage.isFound || this.#looksToSkip >= 0) return;
    const file = await stat(`${path}-wal`).catch(() => null);
    const cut = file === null ? null : this.#due(file.size, file.mtimeMs);
    if (file === null || cut === null) return;
    this.#orderedBytes = file.size;
    this.#orderedMs = file.mtimeMs;
    this.#looksSinceOrder = 0;
    const insists = file.size > WAL_BYTES_INSISTED && this.#looksSinceInsisting >= INSIST_LOOKS;
    if (insists) this.#looksSinceInsisting = 0;
    const result = await thread.checkpoint({ cut, insists });
    if ('isLost' in result) return this.#failed('the thread for it ended');
    const error = result.failed === null ? null : Object.assign(new Error(result.failed), result);
    if (error === null || isBusy(error)) {
      onThread(true);
      this.#isFailing = false;
      return;
    }
    this.#failed(error.message);
    // If the error means damage, no further checkpoint runs. Other errors, such as a full disk, lose nothing: data in
    // the WAL are as durable as in the database.
    damage.toPantheonError(error);
  }

  /** Lets commits run checkpoints, and waits two seconds before the thread tries again. */
  #failed(why: string): void {
    this.#options.onThread(false);
    this.#looksToSkip = QUIET_LOOKS;
    if (!this.#isFailing)
      this.#options.onWarning(`the write-ahead log cannot be copied beside commits, so commits do it: ${why}`);
    this.#isFailing = true;
  }

  /** Null: no checkpoint is due. Otherwise whether the file is to be truncated. */
  #due(bytes: number, committedMs: number): boolean | null {
    this.#looksSinceOrder += 1;
    this.#looksSinceInsisting += 1;
    this.#looksSinceCommit = committedMs === this.#committedMs ? this.#looksSinceCommit + 1 : 0;
    this.#committedMs = committedMs;
    if (bytes <= WAL_BYTES_LEFT_ALONE_MAX) {
      this.#orderedBytes = 0;
      return null;
    }
    const isQuiet = this.#looksSinceCommit > 0 && this.#looksSinceCommit % QUIET_LOOKS === 0;
    if (this.#isClosed || isQuiet || bytes > WAL_BYTES_KEPT_MAX) return true;
    const isDue =
      bytes > this.#orderedBytes || (committedMs !== this.#orderedMs && this.#looksSinceOrder >= COPY_LOOKS);
    return isDue ? false : null;
  }
}
