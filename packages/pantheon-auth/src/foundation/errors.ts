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
  }
}

/** What we believe always holds. When it does not, the request fails and the operator is told. */
export function invariant(condition: unknown, belief: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${belief}`);
}

/** The end of a `switch` over a union: compiles only when every case is handled. */
export function assertNever(value: never): never {
  throw new Error(`Unhandled case: ${String(value)}`);
}
