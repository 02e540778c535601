/**
 * What an error of the SQLite driver means to a caller. The text of the driver names tables and columns only, never a
 * value, so it may serve as the operator's detail.
 */
import { hasCode, isErrorLike, PantheonError } from '../../foundation/errors.ts';

/** Primary result codes, https://sqlite.org/rescode.html. The extended code is `primary | detail << 8`. */
const BUSY = 5;
const LOCKED = 6;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CONSTRAINT = 19;
const NOT_A_DATABASE = 26;
/** The file system says that its checksums do not fit: https://sqlite.org/rescode.html#ioerr_corruptfs. */
const IOERR_CORRUPT_FILE_SYSTEM = 8_458;
/** The index of the WAL, a file of its own, cannot be made larger: on a full disk. */
const IOERR_SHM_SIZE = 4_874;
/** There is another file of that name by now, or none: what is read here is no longer what others read. */
export const READONLY_MOVED = 1_032;
const DAMAGE: ReadonlySet<number> = new Set([IOERR_CORRUPT_FILE_SYSTEM, READONLY_MOVED]);
/** The constraints that a concurrent change can break; the others can only be broken by a mistake of ours. */
const LOST_RACES: ReadonlySet<number> = new Set([
  787, // SQLITE_CONSTRAINT_FOREIGNKEY
  1555, // SQLITE_CONSTRAINT_PRIMARYKEY
  2067, // SQLITE_CONSTRAINT_UNIQUE
]);
/** The store that did not answer is worth asking again after this. */
const RETRY_AFTER_SECONDS = 1;

/** The extended result code of a driver error, or null when it is not one. */
function resultCode(error: unknown): number | null {
  return isErrorLike(error) && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : null;
}

/** Another connection holds the lock: asking again is right. */
export function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code !== null && ((code & 0xff) === BUSY || (code & 0xff) === LOCKED);
}

/** The file is not what was written: asking again does not help, and nothing that it says can be believed. */
export function isDamage(error: unknown): boolean {
  const code = resultCode(error);
  if (code === null) return false;
  return (code & 0xff) === CORRUPT || (code & 0xff) === NOT_A_DATABASE || DAMAGE.has(code);
}

/** In words, for the operator. */
export function damageOf(error: unknown): string {
  if (resultCode(error) === READONLY_MOVED) return 'it was moved or replaced while it was in use';
  return (error as Error).message;
}

/** Turns a driver error into ours; whatever is not a condition of the store stays what it is: a mistake of ours. */
export function toPantheonError(error: unknown): unknown {
  // The driver's own state, not SQLite's: the connection was closed.
  if (hasCode(error, 'ERR_INVALID_STATE')) {
    return new PantheonError('shutting_down', { detail: 'The database is closed.', cause: error });
  }
  // An integer that we never wrote: who changed the row made it one that cannot be believed.
  if (hasCode(error, 'ERR_OUT_OF_RANGE')) {
    return new PantheonError('key_quarantined', { detail: 'A number in the database is out of range.', cause: error });
  }
  const code = resultCode(error);
  if (code === null) return error;
  const details = { detail: (error as Error).message, cause: error };
  if (isDamage(error)) return new PantheonError('store_unusable', { ...details, detail: damageOf(error) });
  switch (code & 0xff) {
    case READONLY:
      return new PantheonError('store_read_only', details);
    case FULL:
      return new PantheonError('store_full', details);
    case CONSTRAINT:
      return LOST_RACES.has(code) ? new PantheonError('conflict', details) : error;
    case 1: // SQLITE_ERROR: the statement itself is wrong.
      return error;
    default: // Busy, I/O, memory: it cannot answer now.
      if (code === IOERR_SHM_SIZE) return new PantheonError('store_full', details);
      return new PantheonError('store_unavailable', { ...details, retryAfterSeconds: RETRY_AFTER_SECONDS });
  }
}

/**
 * The same for a failed COMMIT. Nearly all of them are certain: SQLite is still in the transaction or has rolled it
 * back. The exception is an I/O error: when `fsync` fails, the commit record may lie in the WAL without being in its
 * index. This process and all that run will not see it, but recovery after a crash may, until the next write covers it.
 */
export function toCommitError(error: unknown): unknown {
  const code = resultCode(error);
  if (code === null || (code & 0xff) !== IOERR || isDamage(error)) return toPantheonError(error);
  return new PantheonError('outcome_unknown', { detail: (error as Error).message, cause: error });
}
