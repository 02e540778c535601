/**
 * Keeps the WAL of an SQLite file small. SQLite brings it into the database by itself and writes it anew from its start,
 * but never makes the file smaller while somebody is connected: after a burst, or while something read for long, hundreds
 * of megabytes may stay. What is done about it runs in the thread of the reader.
 */
import { stat } from 'node:fs/promises';
import type { SqliteReaderThread } from './sqlite-reader-thread.ts';

/** Twice what SQLite lets a WAL grow to before it brings it into the database. */
export const WAL_BYTES_KEPT_MAX: number = 8 * 1_024 * 1_024;
/** How long a larger WAL may stay. The look itself costs a few microseconds. */
const LOOK_EVERY_MS = 2_000;

export class WalKeeper {
  readonly #file: string;
  readonly #thread: SqliteReaderThread;
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | null = null;

  /** @param deps `path`: of the database file. */
  constructor(deps: { readonly path: string; readonly thread: SqliteReaderThread }) {
    this.#file = `${deps.path}-wal`;
    this.#thread = deps.thread;
    this.#timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** Cuts the WAL off when it is large. Who is in the way is not waited for: the next look is soon. Never throws. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    try {
      const { size } = await stat(this.#file);
      if (size > WAL_BYTES_KEPT_MAX) await this.#thread.checkpoint();
    } catch {
      // There is no WAL, or the disk is full, or the thread ended. What is in the WAL is as durable as in the database.
    }
  }
}
