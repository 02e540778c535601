/**
 * `authenticate(request)`: finds the credential in a request, key or JWT, verifies it, and shapes the refusal. The
 * adapters in `middleware/` turn their framework's request into ours and our refusal into theirs; nothing is decided
 * there.
 */
import type { KeyValidator, RefusedUse, Verification, VerifiedKey } from './api-keys/key-validator.ts';
import type { Environment } from './domain/key.ts';
import type { Caller } from './domain/key-policy.ts';
import type { LimitState } from './domain/limits.ts';
import { grants } from './domain/permissions.ts';
import type { Code } from './foundation/codes.ts';
import { PantheonError } from './foundation/errors.ts';
import { errorProblem, PROBLEM_MEDIA_TYPE, type Problem, toProblem } from './foundation/problem.ts';
import type { TokenVerification, TokenVerifier, VerifiedToken } from './jwt/token-verifier.ts';

/** A request as far as authentication looks at it. */
export interface AuthRequest {
  /** Path and query: only looked at to refuse a credential in it. */
  readonly url: string;
  /** Every value of a header, by lower-case name, as it was sent: so that a second one cannot hide. */
  readonly header: (name: 'authorization' | 'x-api-key') => readonly string[];
  /** Where it comes from, as far as that is to be trusted; null: not known. */
  readonly address: string | null;
  /** Told in refusals, for the operator. */
  readonly requestId?: string;
}

export interface AuthenticateOptions {
  /** All of these must be covered. */
  readonly permissions?: readonly string[];
  /** Default `default`. `any` accepts keys of every tenant. */
  readonly tenant?: string;
  /** Default `live`. */
  readonly environment?: Environment | 'any';
  /** What is accepted. Default: both. */
  readonly accept?: readonly ('api_key' | 'token')[];
  /** Audiences of tokens. Default: the service's own. */
  readonly audience?: readonly string[];
  /** Units to take from every limit. Default 1. */
  readonly cost?: number;
}

/** Who is calling, proved. */
export interface Principal extends VerifiedKey {
  readonly kind: 'api_key' | 'token';
  /** What may be done: of a token, what both it and its key allow. */
  readonly permissions: readonly string[];
  /** Null for an API key. */
  readonly token: VerifiedToken | null;
  /** Whether a concrete permission is covered. */
  can(permission: string): boolean;
}

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
}

export type Authentication =
  | {
      readonly authenticated: true;
      readonly principal: Principal;
      /** To set on the response: the state of the limits. */
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly authenticated: false; readonly refusal: Refusal };

/** Shown in challenges (RFC 9110 section 11.5). */
const REALM = 'pantheon-auth';
/** Longer is no credential of ours: a token has 8 KiB at most. */
const CREDENTIAL_LENGTH_MAX = 8_192;
/** `token68` of RFC 9110 section 11.2, after exactly one space. */
const BEARER = /^bearer ([A-Za-z0-9\-._~+/]+=*)$/i;

type Found = { readonly credential: string } | { readonly refused: Code };

export class Authenticator {
  readonly #validator: KeyValidator;
  readonly #tokens: TokenVerifier;
  readonly #keyInUrl: RegExp;

  constructor(deps: { readonly validator: KeyValidator; readonly tokens: TokenVerifier; readonly brand: string }) {
    this.#validator = deps.validator;
    this.#tokens = deps.tokens;
    this.#keyInUrl = new RegExp(`${deps.brand}_(?:live|test)_[0-9A-Za-z]{16}`);
  }

  /** Never throws: what cannot be answered is a refusal with a 503. */
  async authenticate(request: AuthRequest, options: AuthenticateOptions = {}): Promise<Authentication> {
    try {
      const found = this.#find(request);
      if ('refused' in found) return refuse(found.refused, found.refused, request);
      const verification = await this.#verify(found.credential, request, options);
      return verification.valid ? accept(verification) : refuseUse(verification, request);
    } catch (error) {
      const problem = error instanceof PantheonError ? error : new PantheonError('internal_error', { cause: error });
      return { authenticated: false, refusal: errorRefusal(problem, request.requestId ?? null) };
    }
  }

  #find(request: AuthRequest): Found {
    // Addresses are written down everywhere: logs, histories, referrers. What was sent in one is no longer a secret.
    if (this.#keyInUrl.test(request.url)) return { refused: 'credential_in_url' };
    const authorization = request.header('authorization');
    const apiKey = request.header('x-api-key');
    const [value] = [...authorization, ...apiKey];
    if (value === undefined) return { refused: 'missing_credential' };
    // Never the first, never the last: who sends two means two things (RFC 6750 section 2).
    if (authorization.length + apiKey.length > 1 || value.includes(',')) return { refused: 'ambiguous_credential' };
    if (value.length > CREDENTIAL_LENGTH_MAX + 'bearer '.length) return { credential: '' };
    if (apiKey.length === 1) return { credential: value };
    return { credential: BEARER.exec(value)?.[1] ?? '' };
  }

  #verify(
    credential: string,
    request: AuthRequest,
    options: AuthenticateOptions,
  ): Promise<Verification | TokenVerification> {
    const { accept: kinds = ['api_key', 'token'], audience, ...demand } = options;
    const isToken = credential.includes('.');
    const common = { ...demand, ip: request.address };
    if (!kinds.includes(isToken ? 'token' : 'api_key'))
      return Promise.resolve(this.#validator.unproved('unknown', request.address));
    if (!isToken) return this.#validator.verify({ ...common, key: credential });
    return this.#tokens.verify({ ...common, token: credential, ...(audience === undefined ? {} : { audience }) });
  }
}

/** The caller of a change, as the audit trail and the permission checks know it. */
export function callerOf(
  principal: Principal,
  request: { readonly address: string | null; readonly userAgent: string | null; readonly requestId: string | null },
): Caller {
  const { keyId, userId, tenantId, permissions, expiresAt, ipAllowlist } = principal;
  return {
    authority: {
      kind: 'key',
      keyId,
      tenantId,
      permissions,
      // A token was narrowed by someone: what it may hand out was not said, so it is nothing.
      grantable: principal.kind === 'token' ? [] : principal.grantable,
      expiresAt,
      ipAllowlist,
    },
    circumstances: {
      actor: { keyId, userId, address: request.address, userAgent: request.userAgent },
      requestId: request.requestId,
      reason: null,
    },
  };
}

/** The refusal that tells of an error. */
export function errorRefusal(error: PantheonError, requestId: string | null): Refusal {
  const body = errorProblem(error, requestId);
  const headers = {
    ...BASE_HEADERS,
    ...challenge(error.code, body.status, null),
    ...(body.status === 503 ? { 'retry-after': String(error.retryAfterSeconds ?? 1) } : {}),
  };
  return { status: body.status, code: error.code, headers, body, cause: error.code, keyId: null };
}

/** `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11). Names are of our own grammar: no escaping. */
export function rateLimitHeaders(limits: readonly LimitState[]): Record<string, string> {
  if (limits.length === 0) return {};
  return {
    'ratelimit-policy': limits
      .map(({ name, limit, windowSeconds }) => `"${name}";q=${limit};w=${windowSeconds}`)
      .join(', '),
    ratelimit: limits
      .map(({ name, remaining, resetSeconds }) => `"${name}";r=${remaining};t=${resetSeconds}`)
      .join(', '),
  };
}

const BASE_HEADERS = { 'content-type': PROBLEM_MEDIA_TYPE, 'cache-control': 'no-store' } as const;

function accept(
  verification: Extract<Verification, { valid: true }> | Extract<TokenVerification, { valid: true }>,
): Authentication {
  const token = 'token' in verification ? verification.token : null;
  const permissions = token?.permissions ?? verification.key.permissions;
  const principal: Principal = {
    ...verification.key,
    kind: token === null ? 'api_key' : 'token',
    permissions,
    token,
    can: (permission) => grants(permissions, permission),
  };
  return { authenticated: true, principal, headers: rateLimitHeaders(verification.limits) };
}

function refuseUse(use: RefusedUse, request: AuthRequest): Authentication {
  const { denial, proved, keyId, retryAfterSeconds } = use;
  // Who proved no secret gets one answer, whatever the cause (I12).
  const isNobody = !proved && denial.code !== 'rate_limited';
  const told: Code = isNobody ? 'invalid_key' : denial.code;
  const body = toProblem(told, {
    requestId: request.requestId ?? null,
    ...(denial.missing === undefined ? {} : { detail: `The permission ${denial.missing} is missing.` }),
    ...(denial.violated === undefined ? {} : { violated: denial.violated }),
  });
  const headers = {
    ...BASE_HEADERS,
    ...challenge(told, body.status, denial.missing ?? null),
    ...rateLimitHeaders(use.limits),
    ...(retryAfterSeconds === null ? {} : { 'retry-after': String(retryAfterSeconds) }),
  };
  return {
    authenticated: false,
    refusal: { status: body.status, code: told, headers, body, cause: denial.code, keyId },
  };
}

function refuse(code: Code, cause: Code, request: AuthRequest): Authentication {
  const body = toProblem(code, { requestId: request.requestId ?? null });
  const headers = { ...BASE_HEADERS, ...challenge(code, body.status, null) };
  return { authenticated: false, refusal: { status: body.status, code, headers, body, cause, keyId: null } };
}

/** RFC 6750 section 3: no error where no credential was sent; the scope where one is lacking. */
function challenge(code: Code, status: number, missing: string | null): Record<string, string> {
  if (code === 'missing_credential') return { 'www-authenticate': `Bearer realm="${REALM}"` };
  const error = status === 401 ? 'invalid_token' : code === 'insufficient_permissions' ? 'insufficient_scope' : null;
  if (error === null) return {};
  const scope = missing === null ? '' : `, scope="${missing}"`;
  return { 'www-authenticate': `Bearer realm="${REALM}", error="${error}"${scope}` };
}
