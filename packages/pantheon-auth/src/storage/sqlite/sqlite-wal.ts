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
 * A smaller WAL is left alone: what SQLite lets one grow to. One that holds more is copied and begins anew in the same file,
 * which is overwritten: that is faster than making it larger.
 */
export const WAL_BYTES_LEFT_ALONE_MAX: number = 4 * MIB;
/** A file that is larger is made empty. What is written until that is done comes on top. */
export const WAL_BYTES_KEPT_MAX: number = 16 * MIB;
/**
 * Beyond this size the checkpoint waits for readers, and commits wait too, because overlapping short reads would
 * otherwise let it grow without end.
 */
export const WAL_BYTES_INSISTED: number = 64 * MIB;
/** How often (1 s). */
const INSIST_LOOKS = 10;
/** The look itself costs some ten microseconds, outside of the main thread. */
const LOOK_EVERY_MS = 100;
/** A file that is overwritten does not grow: after so many looks (0.5 s) it is copied nevertheless. */
const COPY_LOOKS = 5;
/** After so many without a commit (2 s) nobody is held up by making the file empty. */
const QUIET_LOOKS = 20;

/** In pages of 4 KiB. What SQLite does by default. */
const PAGES_WITHOUT_THREAD = 1_000;
/** The room that is kept for revocations is 4 MiB, and a WAL that grows must not use it up. */
const PAGES_WHILE_FULL = 100;

/**
 * What a commit of the writer copies by itself: nothing, as a rule. Two states are worth a stop of the main thread: there
 * is no thread, and so nobody else would copy; and a full disk, where the WAL has to begin anew after every few commits.
 */
export class CommitCheckpoints {
  readonly #writer: DatabaseSync;
  #hasThread: boolean;
  #isFull = false;
  #pages: number | null = null;

  constructor(writer: DatabaseSync, hasThread: boolean) {
    this.#writer = writer;
    this.#hasThread = hasThread;
    // Only where commits begin the WAL anew after a long read; else the thread makes the file smaller.
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
  /** Told with each checkpoint whether the thread can do it. If not, commits have to. */
  readonly onThread: (hasThread: boolean) => void;
  /** Told once of a thread that cannot, and again after it could. */
  readonly onWarning: (warning: string) => void;
}

export class WalKeeper {
  readonly #options: WalKeeperOptions;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | null = null;
  #isClosed = false;
  /** Of the file when a checkpoint was last ordered; 0 once it was small again. */
  #orderedBytes = 0;
  /** When the file was last written to: with the last commit. */
  #committedMs = 0;
  /** The same, when a checkpoint was last ordered. */
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

  /** Orders a checkpoint when one is due, and waits for it. Who is in the way is not waited for. Never throws. */
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
    // Damage is remembered, and ends this. Else a full disk, say: what is in the WAL is as durable as in the database.
    damage.toPantheonError(error);
  }

  /** Commits copy by themselves, and what fails is not tried ten times a second. */
  #failed(why: string): void {
    this.#options.onThread(false);
    this.#looksToSkip = QUIET_LOOKS;
    if (!this.#isFailing)
      this.#options.onWarning(`the write-ahead log cannot be copied beside commits, so commits do it: ${why}`);
    this.#isFailing = true;
  }

  /** Null: no checkpoint is due. Else whether the file is to be made empty. */
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
