/** How a promise that could not be kept is told: one error class with a code, and the two checks of our own beliefs. */
import { CODES, type Code } from './codes.ts';

export interface ErrorDetails {
  /** For the operator; never holds what the caller sent, never a secret. */
  readonly detail?: string;
  /** The input field at fault, as a path: `rateLimits[0].window`. */
  readonly field?: string;
  /** For 503 and 429: how long to wait. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** Of the registry that all realms and copies share. */
const MARK: unique symbol = Symbol.for('pantheon-auth.PantheonError') as never;

/**
 * A request that cannot be carried out, or a promise that cannot be kept now. A verification answers denials as values; a
 * management call that its caller may not make is refused with the denial's code.
 *
 * @example
 * ```ts
 * import { PantheonError } from 'pantheon-auth';
 * const isMissing = (error: unknown): boolean => error instanceof PantheonError && error.code === 'not_found';
 * ```
 */
export class PantheonError extends Error {
  /** By a mark and not by the prototype: so `instanceof` also knows one that another copy of this file has made. */
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
 * The code of an error of Node, a driver or ours, such as `ENOENT`; null: it has none. By its shape and not its class: an
 * error that was made elsewhere (in another realm, as under Jest, or by another copy of a package) has another class.
 */
export function codeOf(error: unknown): string | null {
  const code = isErrorLike(error) && 'code' in error ? error.code : null;
  return typeof code === 'string' ? code : null;
}

/**
 * Whether it is an error with this code, ours or Node's, whatever realm or copy of a package made it.
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

/** What an error says; of what is no error, what it is written as. */
export function messageOf(error: unknown): string {
  return isErrorLike(error) ? error.message : String(error);
}

/** An error of any realm. */
export function isErrorLike(value: unknown): value is Error {
  return typeof value === 'object' && value !== null && 'message' in value && typeof value.message === 'string';
}

/** What we believe always holds. When it does not, the request fails and the operator is told. */
export function invariant(condition: unknown, belief: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${belief}`);
}

/** The end of a `switch` over a union: compiles only when every case is handled. */
export function assertNever(value: never): never {
  throw new Error(`Unhandled case: ${String(value)}`);
}
