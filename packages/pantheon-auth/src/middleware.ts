/**
 * `authenticate(request)`: finds the credential in a request, key or JWT, and verifies it; `middleware/refusal.ts` shapes the no. The
 * adapters in `middleware/` turn their framework's request into ours and our refusal into theirs; nothing is decided
 * there.
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
import type { TokenVerification, TokenVerifier, VerifiedToken } from './jwt/token-verifier.ts';
import { codeRefusal, errorRefusal, type Refusal, rateLimitHeaders, useRefusal } from './middleware/refusal.ts';
import { COST_MAX } from './rate-limit/rate-limiter.ts';

export type { AppTypes, Permission };
export { errorRefusal, type Refusal, rateLimitHeaders };

/** A request as far as authentication looks at it. */
export interface AuthRequest {
  /** Path and query: only looked at to refuse a credential in it. */
  readonly url: string;
  /**
   * Every value of a header, by lower-case name, as it was sent: so that a second one cannot hide. The same credential in
   * both headers counts once; two different ones are refused.
   */
  readonly header: (name: 'authorization' | 'x-api-key' | 'x-forwarded-for') => readonly string[];
  /** Where it comes from, as far as that is to be trusted; null: not known. */
  readonly address: string | null;
  /** Told in refusals, for the operator. */
  readonly requestId?: string;
}

export interface AuthenticateOptions<App extends AppTypes = AppTypes> {
  /** All of these must be covered. */
  readonly permissions?: readonly Permission<App>[];
  /** Default `default`. {@link ANY_TENANT} accepts keys of every tenant. */
  readonly tenant?: string | typeof ANY_TENANT;
  /** Default `live`. {@link ANY_ENVIRONMENT} accepts both. */
  readonly environment?: Environment | typeof ANY_ENVIRONMENT;
  /** What is accepted. Default: both. */
  readonly accept?: readonly ('api_key' | 'token')[];
  /** Audiences of tokens. Default: the service's own. */
  readonly audience?: readonly string[];
  /** Whether a token that is meant for any other audience as well is refused. Default: it is not. */
  readonly audienceOnly?: boolean;
  /** Units to take from every limit. Default 1. */
  readonly cost?: number;
}

/** Who is calling, proved. */
export interface Principal<App extends AppTypes = AppTypes> extends VerifiedKey<App> {
  readonly kind: 'api_key' | 'token';
  /** What may be done: of a token, what both it and its key allow. */
  readonly permissions: readonly PermissionPattern<App>[];
  /** Null for an API key. */
  readonly token: VerifiedToken<App> | null;
  /** Whether a concrete permission is covered. */
  can(permission: Permission<App>): boolean;
}

export type Authentication<App extends AppTypes = AppTypes> =
  | {
      readonly authenticated: true;
      readonly principal: Principal<App>;
      /** To set on the response: the state of the limits. */
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly authenticated: false; readonly refusal: Refusal };

/** Longer is no credential of ours: a token has 8 KiB at most. */
const CREDENTIAL_LENGTH_MAX = 8_192;
/** `token68` of RFC 9110 section 11.2, after exactly one space. */
const BEARER = /^bearer ([A-Za-z0-9\-._~+/]+=*)$/i;

/** Starts like a token. A token begins where nothing of it stands before, so that the search stays linear. */
const TOKEN_IN_URL = /(?<![\w-])(eyJ[\w-]+)\.[\w-]+\.[\w-]+/g;
/** Tokens of other kinds have their own rules, and some belong into addresses (links in mails, hints of a login). */
const ACCESS_TOKEN_TYPE = /"typ":"(?:application\/)?(?:at|pantheon-key)\+jwt"/;

type Found = { readonly credential: string } | { readonly refused: Code };

export class Authenticator {
  readonly #validator: KeyValidator;
  readonly #tokens: TokenVerifier;
  readonly #keyInUrl: RegExp;

  constructor(deps: { readonly validator: KeyValidator; readonly tokens: TokenVerifier; readonly keyPrefix: string }) {
    this.#validator = deps.validator;
    this.#tokens = deps.tokens;
    // One character more than the id: the public part alone, as a record's hint shows it, is no credential.
    this.#keyInUrl = new RegExp(`${deps.keyPrefix}_(?:live|test)_[0-9A-Za-z]{17}`);
  }

  /** Never throws: what cannot be answered is a refusal with a 503. */
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
    // Addresses are written down everywhere: logs, histories, referrers. What was sent in one is no longer a secret.
    if (this.#isExposed(request.url)) return { refused: 'credential_in_url' };
    const authorization = request.header('authorization');
    const apiKey = request.header('x-api-key');
    const values = [...authorization, ...apiKey];
    if (values.length === 0) return { refused: 'missing_credential' };
    // Never the first, never the last: a request with two credentials means two things (RFC 6750 section 2).
    if (authorization.length > 1 || apiKey.length > 1 || values.some((value) => value.includes(',')))
      return { refused: 'ambiguous_credential' };
    const found = [...authorization.map(fromAuthorization), ...apiKey.map(fromApiKey)];
    const [credential = '', same = credential] = found;
    // Generated clients send one credential in every header that they know of.
    return isSame(credential, same) ? { credential } : { refused: 'ambiguous_credential' };
  }

  /** Written plainly or with the escapes that clients put there: what has to be escaped on purpose was not sent by mistake. */
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
    const { accept: kinds = ['api_key', 'token'], audience, ...demand } = options;
    const isToken = credential.includes('.');
    const common = { ...demand, ip: request.address };
    if (!kinds.includes(isToken ? 'token' : 'api_key'))
      return Promise.resolve(
        this.#validator.rejectUnauthenticated('unknown', { address: request.address, askedBy: null }),
      );
    if (!isToken) return this.#validator.verify({ ...common, key: credential });
    return this.#tokens.verify({ ...common, token: credential, ...(audience === undefined ? {} : { audience }) });
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

/** The caller of a change, as the audit trail and the permission checks know it. */
export function callerOf(
  principal: Principal,
  request: { readonly address: string | null; readonly userAgent: string | null; readonly requestId: string | null },
): Caller {
  const { keyId, userId, tenantId, permissions, ipAllowlist, token } = principal;
  // Nothing that a token makes outlives it: else whoever steals one for five minutes leaves with a key for ever.
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
      // A token was narrowed by someone: what it may hand out was not said, so it is nothing.
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
 * Whether who was let in may also do this; null: yes. The same answer as if it had been asked at once. Only narrows: what
 * the request took from its limits stays taken.
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
 * Holds what was written in a program against what can be asked for, so that a mistake stops the start and is not every
 * caller's problem.
 *
 * @throws PantheonError `invalid_setting`, naming the option.
 */
export function assertAuthenticateOptions(options: AuthenticateOptions): void {
  for (const name of Object.keys(options)) {
    // A misspelt `permissions` would let everybody in.
    if (!Object.hasOwn(OPTION_CHECKS, name)) throw invalidOption(name, 'There is no such option.');
  }
  for (const [name, check] of Object.entries(OPTION_CHECKS)) check(options[name as keyof AuthenticateOptions], name);
}

/**
 * Holds the permissions that a guard asks for against what can be asked for.
 *
 * @throws PantheonError `invalid_setting`, naming the one that is none; also for an empty list: a guard that asks for
 * nothing would let everybody in who has any key.
 */
export function assertPermissionsToAsk(permissions: readonly string[]): void {
  OPTION_CHECKS.permissions(permissions, 'permissions');
  if (!Array.isArray(permissions) || permissions.length === 0)
    throw invalidOption('permissions', 'Name at least one permission.');
}

/** One check for each option; `undefined` is the default. */
const OPTION_CHECKS: Readonly<Record<keyof AuthenticateOptions, (value: unknown, name: string) => void>> = {
  permissions: (value) => {
    assertList(value, 'permissions', 'Ask for concrete permissions such as docs:read.', (one) =>
      isPermission(one as string),
    );
  },
  tenant: (value) => {
    if (value !== undefined && value !== ANY_TENANT && typeof value !== 'string')
      throw invalidOption('tenant', 'The id of a tenant, or ANY_TENANT.');
  },
  environment: (value) => {
    if (![undefined, 'live', 'test', ANY_ENVIRONMENT].includes(value as undefined))
      throw invalidOption('environment', 'live, test, or ANY_ENVIRONMENT.');
  },
  accept: (value) => {
    assertList(value, 'accept', 'api_key or token.', (one) => one === 'api_key' || one === 'token');
    if (Array.isArray(value) && value.length === 0) throw invalidOption('accept', 'Name api_key, token, or both.');
  },
  audience: (value) => {
    assertList(value, 'audience', 'The audience of a token is a text.', (one) => typeof one === 'string' && one !== '');
    if (Array.isArray(value) && value.length === 0) throw invalidOption('audience', 'Name at least one audience.');
  },
  audienceOnly: (value) => {
    if (value !== undefined && typeof value !== 'boolean') throw invalidOption('audienceOnly', 'true or false.');
  },
  cost: (value = 1) => {
    if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > COST_MAX)
      throw invalidOption('cost', `A cost is a whole number from 0 to ${COST_MAX}.`);
  },
};

function assertList(value: unknown, name: string, advice: string, isOne: (one: unknown) => boolean): void {
  if (value === undefined) return;
  if (!Array.isArray(value)) throw invalidOption(name, `A list. ${advice}`);
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

/** The request was read by then. What is called the caller's fault further down is a mistake in our own options. */
function faultOf(error: unknown): PantheonError {
  const isOurs = error instanceof PantheonError && (CODES[error.code].status ?? 500) >= 500;
  return isOurs ? error : new PantheonError('internal_error', { cause: error });
}
