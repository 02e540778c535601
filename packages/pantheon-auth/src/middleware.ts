/**
 * `authenticate(request)`: finds the credential in a request, key or JWT, and verifies it. `middleware/refusal.ts`
 * makes the answer of a denial. The adapters in `middleware/` only translate requests and answers of their framework.
 */
import { timingSafeEqual } from 'node:crypto';
import type { KeyValidator, Verification, VerifiedKey } from './api-keys/key-validator.ts';
import type { NextSecretForHolder } from './api-keys/next-secret-reader.ts';
import { normalAddress } from './domain/address.ts';
import type { AppTypes, Permission, PermissionPattern } from './domain/app-types.ts';
import type { PresentedCredential } from './domain/credential.ts';
import type { Caller } from './domain/key-policy.ts';
import { grants } from './domain/permissions.ts';
import { decidePermissions } from './domain/verification.ts';
import { earlier } from './foundation/clock.ts';
import { CODES, type Code } from './foundation/codes.ts';
import { exposedKeyPattern, holdsCredential, WHOLE_TOKEN } from './foundation/credential-text.ts';
import { PantheonError } from './foundation/errors.ts';
import { assertMembers } from './foundation/members.ts';
import { JWS_LENGTH_MAX } from './jwt/jws.ts';
import type { TokenVerification, TokenVerifier, VerifiedToken } from './jwt/token-verifier.ts';
import { type AuthenticateOptions, DEMANDED } from './middleware/authenticate-options.ts';
import {
  codeRefusal,
  errorRefusal,
  expiryHeaders,
  type Refusal,
  rateLimitHeaders,
  rotationHeaders,
  useRefusal,
} from './middleware/refusal.ts';

export type { AuthenticateOptions } from './middleware/authenticate-options.ts';
export type { AppTypes, Permission };
export { errorRefusal, type Refusal, rateLimitHeaders };

/** The parts of a request that authentication needs. */
export interface AuthRequest {
  /** Path and query. Used only to refuse a credential in them. */
  readonly url: string;
  /**
   * All values of a header, by lower-case name, as they were sent, so that a repeated header is noticed. The same
   * credential in both headers is accepted; two different ones are refused.
   */
  readonly header: (name: 'authorization' | 'x-api-key' | 'x-forwarded-for') => readonly string[];
  /** The trusted client address; null: not known. */
  readonly address: string | null;
  /** The request id, which refusals contain as `instance`. */
  readonly requestId?: string;
}

/** The authenticated caller. */
export interface Principal<App extends AppTypes = AppTypes> extends VerifiedKey<App> {
  readonly kind: 'api_key' | 'token';
  /** The permissions; for a token those that both the token and its key have. */
  readonly permissions: readonly PermissionPattern<App>[];
  /** Null for an API key. */
  readonly token: VerifiedToken<App> | null;
  /** Whether the caller has this permission. */
  can(permission: Permission<App>): boolean;
}

export type Authentication<App extends AppTypes = AppTypes> =
  | {
      readonly authenticated: true;
      readonly principal: Principal<App>;
      /** Headers to set on the response: the state of the limits, and whether the key is to be rotated. */
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly authenticated: false; readonly refusal: Refusal };

/** Who sent a request, for the audit trail. */
interface Sender {
  readonly userAgent: string | null;
}

/** A next secret, or the refusal to send: also `not_found` when there is none. */
export type NextSecretAnswer<T = NextSecretForHolder> =
  | {
      readonly found: true;
      readonly keyId: string;
      readonly next: T;
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly found: false; readonly refusal: Refusal };

/** The longest credential is a token. */
const CREDENTIAL_LENGTH_MAX = JWS_LENGTH_MAX;
/** `token68` of RFC 9110 section 11.2, after exactly one space. */
const BEARER = /^bearer ([A-Za-z0-9\-._~+/]+=*)$/i;

/** Other kinds of tokens are not refused in URLs, because some are meant for URLs (links in mails, login hints). */
const ACCESS_TOKEN_TYPE = /"typ":"(?:application\/)?(?:at|pantheon-key)\+jwt"/;

type Found = { readonly credential: string } | { readonly refused: Code };

export class Authenticator {
  readonly #validator: KeyValidator;
  readonly #tokens: TokenVerifier;
  readonly #keyInUrl: RegExp;

  constructor(deps: { readonly validator: KeyValidator; readonly tokens: TokenVerifier; readonly keyPrefix: string }) {
    this.#validator = deps.validator;
    this.#tokens = deps.tokens;
    this.#keyInUrl = new RegExp(exposedKeyPattern(deps.keyPrefix));
  }

  /** Never throws: if the credential cannot be verified now, the refusal has a status of 503. */
  async authenticate(request: AuthRequest, options: AuthenticateOptions = {}): Promise<Authentication> {
    const requestId = request.requestId ?? null;
    try {
      const found = this.#find(request);
      if ('refused' in found) return { authenticated: false, refusal: codeRefusal(found.refused, requestId) };
      const verification = await this.#verify(found.credential, request, options);
      if (verification.valid) return accept(verification);
      return { authenticated: false, refusal: useRefusal(verification, requestId) };
    } catch (error) {
      return { authenticated: false, refusal: errorRefusal(faultOf(error), requestId) };
    }
  }

  /**
   * The next secret of the key in the request, which may be of a version whose overlap has ended. `fetch` reads it for the
   * caller. Never throws, as {@link Authenticator.authenticate}.
   */
  async nextSecret<T>(
    request: AuthRequest & Pick<Sender, 'userAgent'>,
    fetch: (by: Caller) => Promise<T>,
  ): Promise<NextSecretAnswer<T>> {
    const requestId = request.requestId ?? null;
    try {
      const found = this.#find(request);
      if ('refused' in found) return { found: false, refusal: codeRefusal(found.refused, requestId) };
      const verification = await this.#validator.verifyForNext(found.credential, request.address);
      if (!verification.valid) return { found: false, refusal: useRefusal(verification, requestId) };
      const { principal, headers } = accept(verification);
      const { address, userAgent } = request;
      const next = await fetch(callerOf(principal, { address, userAgent, requestId }));
      return { found: true, keyId: principal.keyId, next, headers };
    } catch (error) {
      // A denial: the key was changed while the read waited.
      const isExpected =
        error instanceof PantheonError && (error.code === 'not_found' || CODES[error.code].kind === 'denial');
      return { found: false, refusal: errorRefusal(isExpected ? error : faultOf(error), requestId) };
    }
  }

  #find(request: AuthRequest): Found {
    // URLs are stored in logs, histories and referrers, so a credential in one is no longer secret.
    if (this.#isExposed(request.url)) return { refused: 'credential_in_url' };
    const authorization = request.header('authorization');
    const apiKey = request.header('x-api-key');
    const values = [...authorization, ...apiKey];
    if (values.length === 0) return { refused: 'missing_credential' };
    // A request with two credentials is ambiguous and is refused (RFC 6750 section 2).
    if (authorization.length > 1 || apiKey.length > 1 || values.some((value) => value.includes(',')))
      return { refused: 'ambiguous_credential' };
    const found = [...authorization.map(fromAuthorization), ...apiKey.map(fromApiKey)];
    const [credential = '', same = credential] = found;
    // Generated clients may send the same credential in both headers.
    return isSame(credential, same) ? { credential } : { refused: 'ambiguous_credential' };
  }

  /**
   * Finds it plain or with the escapes that clients add. Other escapes are not decoded, because nobody adds them by
   * mistake.
   */
  #isExposed(url: string): boolean {
    const plain = url.includes('%') ? url.replace(/%5f/gi, '_').replace(/%2e/gi, '.').replace(/%2d/gi, '-') : url;
    if (this.#keyInUrl.test(plain)) return true;
    if (!plain.includes('eyJ')) return false;
    return Array.from(plain.matchAll(WHOLE_TOKEN), ([, header = '']) =>
      Buffer.from(header, 'base64url').toString(),
    ).some((header) => ACCESS_TOKEN_TYPE.test(header));
  }

  #verify(
    credential: string,
    request: AuthRequest,
    options: AuthenticateOptions,
  ): Promise<Verification | TokenVerification> {
    assertMembers(options, DEMANDED, 'options');
    const { accept: kinds = ['api_key', 'token'], audience, audienceOnly, ...demand } = options;
    const isToken = credential.includes('.');
    const common = { ...demand, ip: request.address };
    if (!kinds.includes(isToken ? 'token' : 'api_key'))
      return Promise.resolve(
        this.#validator.rejectUnauthenticated('unknown', { address: request.address, askedBy: null }),
      );
    if (!isToken) return this.#validator.verify({ ...common, key: credential });
    return this.#tokens.verify({
      ...common,
      token: credential,
      ...(audience !== undefined && { audience }),
      ...(audienceOnly !== undefined && { audienceOnly }),
    });
  }
}

function fromAuthorization(value: string): string {
  return value.length > CREDENTIAL_LENGTH_MAX + 'bearer '.length ? '' : (BEARER.exec(value)?.[1] ?? '');
}

function fromApiKey(value: string): string {
  return value.length > CREDENTIAL_LENGTH_MAX ? '' : value;
}

function isSame(one: string, other: string): boolean {
  const [first, second] = [Buffer.from(one), Buffer.from(other)];
  return first.length === second.length && timingSafeEqual(first, second);
}

/** Makes the caller of a change from an authenticated principal. */
export function callerOf(
  principal: Principal,
  request: { readonly address: string | null; readonly userAgent: string | null; readonly requestId: string | null },
): Caller {
  const { keyId, userId, tenantId, permissions, ipAllowlist, token } = principal;
  // A key created with a token expires with the token. Otherwise a stolen five-minute token could create a permanent
  // key.
  const expiresAt = earlier(principal.expiresAt, token?.expiresAt ?? null);
  const address = request.address === null ? null : normalAddress(request.address);
  const isSecret = request.userAgent !== null && holdsCredential(request.userAgent);
  const userAgent = isSecret ? '[credential]' : request.userAgent;
  return {
    authority: {
      kind: 'key',
      ...presentedBy(principal),
      keyId,
      version: principal.version,
      tenantId,
      permissions,
      // A token grants no application permissions, because its scope does not say what it may grant.
      grantable: token === null ? principal.grantable : [],
      expiresAt,
      ipAllowlist,
    },
    auditContext: {
      actor: { keyId, userId, address, userAgent },
      requestId: request.requestId,
      reason: null,
    },
  };
}

function presentedBy({ token, secretMadeAt }: Principal): PresentedCredential {
  if (token === null) return { via: 'api_key', secretMadeAt };
  // Without its audiences and permissions, which do not end it.
  const { audience: _audience, permissions: _permissions, ...presented } = token;
  return { via: 'token', token: presented };
}

/**
 * Checks a further permission of an authenticated caller; null: granted. The refusal is the same as from
 * `authenticate`. Units that the request consumed are not returned.
 */
export function permissionRefusal(
  principal: Principal,
  permissions: readonly string[],
  requestId: string | null,
): Refusal | null {
  const denial = decidePermissions(principal.permissions, permissions);
  if (denial === null) return null;
  const { keyId } = principal;
  const noLimits = { retryAfterSeconds: null, limits: [], degraded: false };
  return useRefusal({ valid: false, denial, secretVerified: true, keyId, ...noLimits }, requestId);
}

function accept(
  verification: Extract<Verification, { valid: true }> | Extract<TokenVerification, { valid: true }>,
): Extract<Authentication, { authenticated: true }> {
  const token = 'token' in verification ? verification.token : null;
  const permissions = token?.permissions ?? verification.key.permissions;
  const principal: Principal = {
    ...verification.key,
    kind: token === null ? 'api_key' : 'token',
    permissions,
    token,
    can: (permission) => grants(permissions, permission),
  };
  // A token may be held by somebody else than its key, so only the holder of the key is told of these.
  const { key } = verification;
  const hints = token === null ? { ...rotationHeaders(key.rotation), ...expiryHeaders(key) } : {};
  const headers = { ...rateLimitHeaders(verification.limits, verification.degraded), ...hints };
  return { authenticated: true, principal, headers };
}

/**
 * At this point an `invalid_request` is a mistake in the options, not of the caller, so it becomes an internal error.
 */
function faultOf(error: unknown): PantheonError {
  const isOurs = error instanceof PantheonError && (CODES[error.code].status ?? 500) >= 500;
  return isOurs ? error : new PantheonError('internal_error', { cause: error });
}
