/**
 * Makes the HTTP answer of a refusal: status, headers, problem document. A caller that presented no valid secret gets
 * the same answer for every cause; details of server errors are for the operator only.
 */
import type { RefusedUse, VerifiedKey } from '../api-keys/key-validator.ts';
import type { LimitState } from '../domain/limits.ts';
import type { RotationHint } from '../domain/rotation-schedule.ts';
import type { Denial } from '../domain/verification.ts';
import { SECOND_MS } from '../foundation/clock.ts';
import type { Code } from '../foundation/codes.ts';
import type { PantheonError } from '../foundation/errors.ts';
import {
  errorProblem,
  PROBLEM_MEDIA_TYPE,
  type Problem,
  type ProblemDetails,
  toProblem,
} from '../foundation/problem.ts';

/** The answer to a refused request. */
export interface Refusal {
  readonly status: number;
  readonly code: Code;
  /** Headers of the answer, including `content-type`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Problem;
  /** The actual cause, for the operator's log. It must not be sent to the caller. */
  readonly cause: Code;
  /** The id of the key, if the caller presented a valid secret of it; otherwise null. */
  readonly keyId: string | null;
  /** The server error, for the operator's log; null: none. It must not be sent to the caller. */
  readonly error: PantheonError | null;
}

/** Shown in challenges (RFC 9110 section 11.5). */
const REALM = 'pantheon-auth';

/** The refusal for an error. */
export function errorRefusal(error: PantheonError, requestId: string | null): Refusal {
  const body = errorProblem(error, requestId);
  // No `Retry-After` for a database that an operator has to repair.
  const mayRetry = (body.status === 429 || body.status === 503) && error.code !== 'store_unusable';
  const headers = {
    ...BASE_HEADERS,
    ...challenge(error.code, body.status, null),
    ...(mayRetry ? { 'retry-after': String(error.retryAfterSeconds ?? 1) } : {}),
  };
  return { status: body.status, code: error.code, headers, body, cause: error.code, keyId: null, error };
}

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11). Names of limits need no escaping. With
 * `degraded` it adds `Pantheon-Limits: degraded`: the values are then about this node alone.
 */
export function rateLimitHeaders(limits: readonly LimitState[], degraded = false): Record<string, string> {
  if (limits.length === 0) return {};
  return {
    'ratelimit-policy': limits
      .map(({ name, limit, windowSeconds }) => `"${name}";q=${limit};w=${windowSeconds}`)
      .join(', '),
    ratelimit: limits
      .map(({ name, remaining, resetSeconds }) => `"${name}";r=${remaining};t=${resetSeconds}`)
      .join(', '),
    ...(degraded && { 'pantheon-limits': 'degraded' }),
  };
}

/**
 * `Pantheon-Rotation`: `due`, `overdue` or `superseded`, with the current version and the time by which the holder should
 * have claimed the next version or have changed to the current one (RFC 9651: an item with parameters).
 */
export function rotationHeaders(hint: RotationHint | null): Record<string, string> {
  if (hint === null) return {};
  const { state, version, before } = hint;
  return { 'pantheon-rotation': `${state};version=${version};before=@${Math.floor(before / SECOND_MS)}` };
}

/** `Pantheon-Key-Expires`: when a key expires whose expiry is announced (RFC 9651: a date). */
export function expiryHeaders({
  expiresSoon,
  expiresAt,
}: Pick<VerifiedKey, 'expiresSoon' | 'expiresAt'>): Record<string, string> {
  return expiresSoon && expiresAt !== null ? { 'pantheon-key-expires': `@${Math.floor(expiresAt / SECOND_MS)}` } : {};
}

const BASE_HEADERS = { 'content-type': PROBLEM_MEDIA_TYPE, 'cache-control': 'no-store' } as const;

/** The refusal for a denied verification. */
export function useRefusal(use: RefusedUse, requestId: string | null): Refusal {
  const { denial, secretVerified, keyId, retryAfterSeconds } = use;
  // Without a valid secret every cause gets the same answer (I12), so that a caller cannot probe which keys exist.
  const told: Code = secretVerified ? denial.code : 'invalid_key';
  const body = toProblem(told, { requestId, ...detailsOf(denial) });
  const headers = {
    ...BASE_HEADERS,
    ...challenge(told, body.status, 'missing' in denial ? denial.missing : null),
    ...rateLimitHeaders(use.limits, use.degraded),
    ...(retryAfterSeconds === null ? {} : { 'retry-after': String(retryAfterSeconds) }),
  };
  return { status: body.status, code: told, headers, body, cause: denial.code, keyId, error: null };
}

function detailsOf(denial: Denial): ProblemDetails {
  if ('missing' in denial) return { detail: `The permission ${denial.missing} is missing.` };
  return 'violated' in denial ? { violated: denial.violated } : {};
}

/** The refusal for a request without a credential that could be verified. */
export function codeRefusal(code: Code, requestId: string | null): Refusal {
  const body = toProblem(code, { requestId });
  const headers = { ...BASE_HEADERS, ...challenge(code, body.status, null) };
  return { status: body.status, code, headers, body, cause: code, keyId: null, error: null };
}

/**
 * The `WWW-Authenticate` header (RFC 6750 section 3): without `error` when no credential was sent, with `scope` when a
 * permission is missing.
 */
function challenge(code: Code, status: number, missing: string | null): Record<string, string> {
  if (code === 'missing_credential') return { 'www-authenticate': `Bearer realm="${REALM}"` };
  const error = status === 401 ? 'invalid_token' : CHALLENGE_ERRORS.get(code);
  if (error === undefined) return {};
  const scope = missing === null ? '' : `, scope="${missing}"`;
  return { 'www-authenticate': `Bearer realm="${REALM}", error="${error}"${scope}` };
}

/** The error codes of RFC 6750 section 3.1 for statuses other than 401. */
const CHALLENGE_ERRORS: ReadonlyMap<Code, string> = new Map<Code, string>([
  ['ambiguous_credential', 'invalid_request'],
  ['credential_in_url', 'invalid_request'],
  ['insufficient_permissions', 'insufficient_scope'],
]);
