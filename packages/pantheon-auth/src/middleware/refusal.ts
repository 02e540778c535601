/**
 * How a "no" looks to the caller: status, headers, problem document. One answer for every cause where no secret was
 * proved; what is wrong with us is told to the operator only. Who is refused is `middleware.ts`.
 */
import type { RefusedUse } from '../api-keys/key-validator.ts';
import type { LimitState } from '../domain/limits.ts';
import type { Denial } from '../domain/verification.ts';
import type { Code } from '../foundation/codes.ts';
import type { PantheonError } from '../foundation/errors.ts';
import {
  errorProblem,
  PROBLEM_MEDIA_TYPE,
  type Problem,
  type ProblemDetails,
  toProblem,
} from '../foundation/problem.ts';

/** A "no" as it goes to the caller. */
export interface Refusal {
  readonly status: number;
  readonly code: Code;
  /** `content-type` among them. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Problem;
  /** The true cause, for the operator's log. Not for the caller (I12). */
  readonly cause: Code;
  /** The key it was about, where that was proved. */
  readonly keyId: string | null;
  /** What went wrong with us, for the operator's log; null: nothing did. Not for the caller. */
  readonly error: PantheonError | null;
}

/** Shown in challenges (RFC 9110 section 11.5). */
const REALM = 'pantheon-auth';

/** The refusal that tells of an error. */
export function errorRefusal(error: PantheonError, requestId: string | null): Refusal {
  const body = errorProblem(error, requestId);
  // Not on a store that somebody has to repair.
  const mayRetry = (body.status === 429 || body.status === 503) && error.code !== 'store_unusable';
  const headers = {
    ...BASE_HEADERS,
    ...challenge(error.code, body.status, null),
    ...(mayRetry ? { 'retry-after': String(error.retryAfterSeconds ?? 1) } : {}),
  };
  return { status: body.status, code: error.code, headers, body, cause: error.code, keyId: null, error };
}

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11). Names are of our own grammar: no escaping.
 * `Pantheon-Limits: degraded` beside them when this node counts alone, so that what they say holds for it alone.
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

const BASE_HEADERS = { 'content-type': PROBLEM_MEDIA_TYPE, 'cache-control': 'no-store' } as const;

/** The refusal that tells of a use. */
export function useRefusal(use: RefusedUse, requestId: string | null): Refusal {
  const { denial, secretVerified, keyId, retryAfterSeconds } = use;
  // Who proved no secret gets one answer, whatever the cause (I12).
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

/** The refusal of a request that holds no credential that could be looked at. */
export function codeRefusal(code: Code, requestId: string | null): Refusal {
  const body = toProblem(code, { requestId });
  const headers = { ...BASE_HEADERS, ...challenge(code, body.status, null) };
  return { status: body.status, code, headers, body, cause: code, keyId: null, error: null };
}

/** RFC 6750 section 3: no error where no credential was sent; the scope where one is lacking. */
function challenge(code: Code, status: number, missing: string | null): Record<string, string> {
  if (code === 'missing_credential') return { 'www-authenticate': `Bearer realm="${REALM}"` };
  const error = status === 401 ? 'invalid_token' : CHALLENGE_ERRORS.get(code);
  if (error === undefined) return {};
  const scope = missing === null ? '' : `, scope="${missing}"`;
  return { 'www-authenticate': `Bearer realm="${REALM}", error="${error}"${scope}` };
}

/** RFC 6750 section 3.1, for what is not a 401. */
const CHALLENGE_ERRORS: ReadonlyMap<Code, string> = new Map<Code, string>([
  ['ambiguous_credential', 'invalid_request'],
  ['credential_in_url', 'invalid_request'],
  ['insufficient_permissions', 'insufficient_scope'],
]);
