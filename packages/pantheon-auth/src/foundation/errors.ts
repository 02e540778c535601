/** The error class of the library, which has a code, and the two assertions `invariant` and `assertNever`. */
import { CODES, type Code } from './codes.ts';

export interface ErrorDetails {
  /** A description for developers and operators. Never contains input or a secret. */
  readonly detail?: string;
  /** The path of the invalid input field: `rateLimits[0].window`. */
  readonly field?: string;
  /** Seconds to wait before repeating the request, for 503 and 429. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** A symbol of the global registry, which all realms and all copies of this package share. */
const MARK: unique symbol = Symbol.for('pantheon-auth.PantheonError') as never;

/**
 * Thrown when a request cannot be executed, or not now. `code` says why; the codes are in `ERRORS` and `STARTUP`. A
 * verification returns a denial as a value instead. A management call by a caller that may not act throws this error
 * with the code of the denial.
 *
 * @example
 * ```ts
 * import { PantheonError } from 'pantheon-auth';
 * const isMissing = (error: unknown): boolean => error instanceof PantheonError && error.code === 'not_found';
 * ```
 */
export class PantheonError extends Error {
  /**
   * Checks a symbol and not the prototype, so that `instanceof` also matches errors made by another copy of this
   * package.
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && MARK in value && isErrorLike(value);
  }

  override readonly name = 'PantheonError';
  readonly code: Code;
  readonly detail: string | null;
  readonly field: string | null;
  readonly retryAfterSeconds: number | null;

  constructor(code: Code, details: ErrorDetails = {}) {
    const { detail, field, retryAfterSeconds, cause } = details;
    const where = field === undefined ? '' : ` (${field})`;
    const what = detail ?? `${CODES[code].title} ${CODES[code].advice}`;
    super(`${code}${where}: ${what}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.detail = detail ?? null;
    this.field = field ?? null;
    this.retryAfterSeconds = retryAfterSeconds ?? null;
    Object.defineProperty(this, MARK, { value: true });
  }
}

/**
 * The code of an error of Node, a driver or this library, such as `ENOENT`; null: it has none. Reads the member and
 * does not check the class, because an error from another realm (as under Jest) or another copy of a package has
 * another class.
 */
export function codeOf(error: unknown): string | null {
  const code = isErrorLike(error) && 'code' in error ? error.code : null;
  return typeof code === 'string' ? code : null;
}

/**
 * Whether a value is an error with this code, of this library or of Node. Also matches errors from another realm or
 * another copy of a package.
 *
 * @example
 * ```ts
 * import { hasCode } from 'pantheon-auth';
 * const isMissing = (error: unknown): boolean => hasCode(error, 'not_found');
 * ```
 */
export function hasCode(error: unknown, code: string): boolean {
  return codeOf(error) === code;
}

/** The message of an error, or the value as text. */
export function messageOf(error: unknown): string {
  return isErrorLike(error) ? error.message : String(error);
}

/** An error of any realm. */
export function isErrorLike(value: unknown): value is Error {
  return typeof value === 'object' && value !== null && 'message' in value && typeof value.message === 'string';
}

/**
 * Asserts a condition that must always hold. If it does not, the request fails with an internal error, which is logged.
 */
export function invariant(condition: unknown, belief: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${belief}`);
}

/** The end of a `switch` over a union: compiles only when every case is handled. */
export function assertNever(value: never): never {
  throw new Error(`Unhandled case: ${String(value)}`);
}
