/**
 * `authenticate(request)`: finds the credential in a request, key or JWT, and verifies it. `middleware/refusal.ts`
 * makes the answer of a denial. The adapters in `middleware/` only translate requests and answers of their framework.
 */
import { timingSafeEqual } from 'node:crypto';
import type { KeyValidator, Verification, VerifiedKey } from './api-keys/key-validator.ts';
import { normalAddress } from './domain/address.ts';
import type { AppTypes, Permission, PermissionPattern } from './domain/app-types.ts';
import type { PresentedCredential } from './domain/credential.ts';
import { ANY_ENVIRONMENT, type Environment } from './domain/key.ts';
import type { Caller } from './domain/key-policy.ts';
import { grants, isPermission } from './domain/permissions.ts';
import { ANY_TENANT } from './domain/tenant.ts';
import { decidePermissions } from './domain/verification.ts';
import { CODES, type Code } from './foundation/codes.ts';
import { withoutCredentials } from './foundation/credential-text.ts';
import { PantheonError } from './foundation/errors.ts';
import { assertMembers, type Members } from './foundation/members.ts';
import type { TokenVerification, TokenVerifier, VerifiedToken } from './jwt/token-verifier.ts';
import { codeRefusal, errorRefusal, type Refusal, rateLimitHeaders, useRefusal } from './middleware/refusal.ts';
import { COST_MAX } from './rate-limit/rate-limiter.ts';

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

export interface AuthenticateOptions<App extends AppTypes = AppTypes> {
  /** The credential must have all of these permissions. */
  readonly permissions?: readonly Permission<App>[];
  /** Default `default`. {@link ANY_TENANT} accepts keys of every tenant. */
  readonly tenant?: string | typeof ANY_TENANT;
  /** Default `live`. {@link ANY_ENVIRONMENT} accepts both. */
  readonly environment?: Environment | typeof ANY_ENVIRONMENT;
  /** The accepted kinds of credential. Default: both. */
  readonly accept?: readonly ('api_key' | 'token')[];
  /** Accepted audiences of tokens. Default: those of the service. */
  readonly audience?: readonly string[];
  /** Whether to deny a token that also has other audiences. Default: false. */
  readonly audienceOnly?: boolean;
  /** Units to take from every limit. Default: 1. */
  readonly cost?: number;
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
      /** Headers to set on the response: the state of the limits. */
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly authenticated: false; readonly refusal: Refusal };

/** The options of a guard. Those that narrow must not be `undefined`: the guard would accept more than was meant. */
const DEMANDED: Members<keyof AuthenticateOptions> = {
  permissions: 'has_a_value',
  tenant: 'has_a_value',
  environment: 'has_a_value',
  accept: 'has_a_value',
  audience: 'has_a_value',
  audienceOnly: 'has_a_value',
  cost: 'may_be_undefined',
};

/** The longest credential: a token has at most 8 KiB. */
const CREDENTIAL_LENGTH_MAX = 8_192;
/** `token68` of RFC 9110 section 11.2, after exactly one space. */
const BEARER = /^bearer ([A-Za-z0-9\-._~+/]+=*)$/i;

/** Text that looks like a token. The lookbehind keeps the search linear. */
const TOKEN_IN_URL = /(?<![\w-])(eyJ[\w-]+)\.[\w-]+\.[\w-]+/g;
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
    // One character more than the id, because the hint of a key, which is public, must not match.
    this.#keyInUrl = new RegExp(`${deps.keyPrefix}_(?:live|test)_[0-9A-Za-z]{17}`);
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
    return Array.from(plain.matchAll(TOKEN_IN_URL), ([, header = '']) =>
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
  const ends = [principal.expiresAt, token?.expiresAt].filter((end) => typeof end === 'number');
  const expiresAt = ends.length === 0 ? null : Math.min(...ends);
  const address = request.address === null ? null : normalAddress(request.address);
  const userAgent = request.userAgent === null ? null : withoutCredentials(request.userAgent);
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
  const { tokenId, kind, algorithm, kid, issuedAt, acceptedFor } = token;
  return { via: 'token', token: { tokenId, kind, algorithm, kid, issuedAt, acceptedFor } };
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

/**
 * Validates options when the middleware is created, so that a mistake fails the start and not each request.
 *
 * @throws PantheonError `invalid_setting`, naming the option.
 */
export function assertAuthenticateOptions(options: AuthenticateOptions): void {
  for (const [name, value] of Object.entries(options)) {
    // With a misspelt or undefined `permissions` every valid credential would be accepted.
    if (!Object.hasOwn(OPTION_CHECKS, name)) throw invalidOption(name, 'There is no such option.');
    const isLeftOut = value === undefined && DEMANDED[name as keyof AuthenticateOptions] === 'has_a_value';
    if (isLeftOut) throw invalidOption(name, 'It is undefined. Omit it or give a value.');
  }
  for (const [name, check] of Object.entries(OPTION_CHECKS)) check(options[name as keyof AuthenticateOptions], name);
  if (options.permissions?.length === 0) throw invalidOption('permissions', 'Name at least one, or omit it.');
}

/**
 * Validates the permissions that a route requires.
 *
 * @throws PantheonError `invalid_setting`, naming the malformed permission; also for an empty list, with which every
 * valid key would be accepted.
 */
export function assertPermissionsToAsk(permissions: readonly string[]): void {
  OPTION_CHECKS.permissions(permissions, 'permissions');
  if (!Array.isArray(permissions) || permissions.length === 0)
    throw invalidOption('permissions', 'Name at least one permission.');
}

/** The check of each option. `undefined` means the default. */
const OPTION_CHECKS: Readonly<Record<keyof AuthenticateOptions, (value: unknown, name: string) => void>> = {
  permissions: (value) => {
    assertList(value, 'permissions', 'Name permissions such as docs:read, not patterns.', (one) =>
      isPermission(one as string),
    );
  },
  tenant: (value) => {
    if (value !== undefined && value !== ANY_TENANT && typeof value !== 'string')
      throw invalidOption('tenant', 'Must be the id of a tenant, or ANY_TENANT.');
  },
  environment: (value) => {
    if (![undefined, 'live', 'test', ANY_ENVIRONMENT].includes(value as undefined))
      throw invalidOption('environment', 'Must be live, test, or ANY_ENVIRONMENT.');
  },
  accept: (value) => {
    assertList(value, 'accept', 'Must be api_key or token.', (one) => one === 'api_key' || one === 'token');
    if (Array.isArray(value) && value.length === 0) throw invalidOption('accept', 'Name api_key, token, or both.');
  },
  audience: (value) => {
    assertList(
      value,
      'audience',
      'An audience must be a non-empty text.',
      (one) => typeof one === 'string' && one !== '',
    );
    if (Array.isArray(value) && value.length === 0) throw invalidOption('audience', 'Name at least one audience.');
  },
  audienceOnly: (value) => {
    if (value !== undefined && typeof value !== 'boolean')
      throw invalidOption('audienceOnly', 'Must be true or false.');
  },
  cost: (value = 1) => {
    if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > COST_MAX)
      throw invalidOption('cost', `A cost is a whole number from 0 to ${COST_MAX}.`);
  },
};

function assertList(value: unknown, name: string, advice: string, isOne: (one: unknown) => boolean): void {
  if (value === undefined) return;
  if (!Array.isArray(value)) throw invalidOption(name, `Must be a list. ${advice}`);
  const wrongAt = value.findIndex((one) => !isOne(one));
  if (wrongAt !== -1) throw invalidOption(`${name}[${wrongAt}]`, advice);
}

function invalidOption(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}

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
  return { authenticated: true, principal, headers: rateLimitHeaders(verification.limits, verification.degraded) };
}

/**
 * At this point an `invalid_request` is a mistake in the options, not of the caller, so it becomes an internal error.
 */
function faultOf(error: unknown): PantheonError {
  const isOurs = error instanceof PantheonError && (CODES[error.code].status ?? 500) >= 500;
  return isOurs ? error : new PantheonError('internal_error', { cause: error });
}
