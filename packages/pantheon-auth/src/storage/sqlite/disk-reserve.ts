/**
 * Disk space reserved for revocations: a filler file beside the database. When a protective write finds the disk full,
 * the file is emptied and the write repeated. From then on only protective writes are allowed, until there is space for
 * the file again.
 */
import { randomFill } from 'node:crypto';
import { statSync, truncateSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Clock } from '../../foundation/clock.ts';
import { OWNER_ONLY } from '../../foundation/durable-file.ts';
import { codeOf } from '../../foundation/errors.ts';

/**
 * Enough for hundreds of revocations. Each writes about 60 kB to the write-ahead log, whose space is reused once all of
 * it is in the database, and makes the database some kB larger.
 */
export const RESERVE_BYTES: number = 4 * 1_024 * 1_024;
/** Bytes per write. The content is random, because a compressing file system would reserve no space for zeros. */
const CHUNK_BYTES: number = 256 * 1_024;
/** How often it is tried to fill the file again. */
const REFILL_EVERY_MS = 1_000;
/** How often the size of the file is read, because another process may have emptied it. */
const LOOK_EVERY_MS = 100;
/** The file system has no room, or the user's share of it is used up. */
const NO_ROOM: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT']);

const randomFillAsync = promisify<Buffer, Buffer>(randomFill);

export interface DiskReserveOptions {
  /** The path of the reserve file. */
  readonly path: string;
  readonly clock: Clock;
  readonly onWarning: (warning: string) => void;
  /** Another size, for tests. 0: no reserve. */
  readonly bytes?: number;
}

/**
 * `none`: the file cannot be written, or no reserve is wanted. `spent`: it was released, or there is no space for it.
 */
type State = 'whole' | 'filling' | 'spent' | 'none';

export class DiskReserve {
  readonly #options: DiskReserveOptions;
  /** The full size. */
  readonly bytes: number;
  #state: State = 'filling';
  #filling: Promise<void> | null = null;
  #retry: NodeJS.Timeout | null = null;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** The number of releases; filling that began before a release is stopped. */
  #given = 0;
  #isClosed = false;

  constructor(options: DiskReserveOptions) {
    this.#options = options;
    this.bytes = options.bytes ?? RESERVE_BYTES;
    if (this.bytes === 0) this.#state = 'none';
  }

  /** Fills the file in the background, unless it has its full size already. */
  start(): void {
    // Already released during this start, or there is no reserve.
    if (this.#state !== 'filling') return;
    if (this.#size() === this.bytes) this.#state = 'whole';
    else this.#fill();
  }

  /** Whether only protective writes may use what is left of the disk. */
  isSpent(): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#state === 'whole' && nowMs - this.#lookedAtMs >= LOOK_EVERY_MS) {
      this.#lookedAtMs = nowMs;
      // Smaller: another process on this file has released it. Larger: another one that starts still adds to it.
      if (this.#size() < this.bytes) this.#spend();
    }
    return this.#state === 'spent';
  }

  /** Releases the space for a protective write. False: there is none. */
  release(): boolean {
    if (this.#state === 'none') return false;
    const had = this.#size();
    this.#given += 1;
    this.#spend();
    if (had === 0) return false;
    try {
      // Truncated, not removed: then the space is free at once, also if another process has the file open.
      truncateSync(this.#options.path, 0);
      return true;
    } catch {
      return false;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    await this.#filling;
  }

  #size(): number {
    return statSync(this.#options.path, { throwIfNoEntry: false })?.size ?? 0;
  }

  #spend(): void {
    this.#state = 'spent';
    this.#retry ??= setTimeout(() => {
      this.#retry = null;
      this.#fill();
    }, REFILL_EVERY_MS);
    this.#retry.unref();
  }

  #fill(): void {
    if (this.#isClosed || this.#filling !== null) return;
    this.#filling = this.#fillNow().finally(() => {
      this.#filling = null;
    });
  }

  async #fillNow(): Promise<void> {
    const { path, onWarning } = this.#options;
    const stateBefore = this.#state;
    try {
      const file = await open(path, 'a', OWNER_ONLY);
      try {
        const isWhole = await this.#write(file);
        if (isWhole) this.#state = 'whole';
      } finally {
        await file.close();
      }
    } catch (error) {
      const code = codeOf(error);
      if (NO_ROOM.has(code)) {
        this.#emptyQuietly();
        if (stateBefore !== 'spent')
          onWarning(`there is no room on the disk for ${path}: nothing but revocations is written until there is`);
        this.#spend();
        return;
      }
      this.#state = 'none';
      onWarning(`${path} cannot be written (${String(code)}): on a full disk nothing can be revoked`);
    }
  }

  /** Writes until the file has its full size. False: the space was released meanwhile, or this process is stopping. */
  async #write(file: FileHandle): Promise<boolean> {
    const given = this.#given;
    const chunk = await randomFillAsync(Buffer.allocUnsafe(CHUNK_BYTES));
    for (;;) {
      const { size } = await file.stat();
      if (this.#isClosed || this.#given !== given) return false;
      // Two processes may have written at the same time.
      if (size > this.bytes) await file.truncate(this.bytes);
      if (size >= this.bytes) return true;
      await file.write(chunk, 0, Math.min(CHUNK_BYTES, this.bytes - size));
    }
  }

  #emptyQuietly(): void {
    try {
      truncateSync(this.#options.path, 0);
    } catch {
      // The file does not exist, or cannot be truncated and keeps its space.
    }
  }
}
