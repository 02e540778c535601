/**
 * Whether an SQLite file was found damaged. A damaged file is no longer read or written: its data may be wrong, and
 * writes could make it worse. Only restoring a backup and a new start end that.
 */
import { PantheonError } from '../../foundation/errors.ts';
import { damageOf, isDamage, toPantheonError } from './sqlite-errors.ts';

export class SqliteDamage {
  readonly #path: string;
  readonly #onFound: (error: PantheonError) => void;
  #found: PantheonError | null = null;

  constructor(path: string, onFound: (error: PantheonError) => void) {
    this.#path = path;
    this.#onFound = onFound;
  }

  get isFound(): boolean {
    return this.#found !== null;
  }

  /** @throws PantheonError `store_unusable` from the moment on at which damage was found. */
  assertNone(): void {
    if (this.#found !== null) throw this.#found;
  }

  /** Maps an error of the driver, and records damage. */
  toPantheonError(error: unknown): unknown {
    if (error === this.#found) return error;
    if (!isDamage(error)) return toPantheonError(error);
    return this.found(damageOf(error), error);
  }

  /** Reports the damage once. */
  found(what: string, cause?: unknown): PantheonError {
    if (this.#found === null) {
      this.#found = damaged(this.#path, what, cause);
      this.#onFound(this.#found);
    }
    return this.#found;
  }
}

/** What is wrong and what to do, in one sentence each. */
export function damaged(path: string, what: string, cause?: unknown): PantheonError {
  const name = path.replace(/^.*[/\\]/, '');
  const detail =
    `${path} is damaged: ${what}. Nothing is read from it or written to it any more. Stop every process that uses it, ` +
    `keep a copy of it and of ${name}-wal, and restore a backup: put ${name} in place and delete ${name}-wal and ` +
    `${name}-shm, which do not belong to it.`;
  return new PantheonError('store_unusable', { detail, cause });
}
