/**
 * The two kinds of tokens, their claims, and the checks of claims. Pure; the time is an argument. Signing and parsing
 * are in `jwt/jws.ts`; whether the key may act is in `verification.ts`.
 */
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import { canonicalJson, isPlainObject, type Json, type JsonObject } from '../foundation/encoding.ts';
import { ID_PATTERN } from '../foundation/ids.ts';
import { FORBIDDEN_MEMBERS } from '../foundation/strict-json.ts';
import { isPermissionPattern, PERMISSIONS_MAX } from './permissions.ts';
import { TENANT_ID_PATTERN } from './tenant-id.ts';

/** Algorithms with a key pair: anyone with the public key can verify. */
export type AsymmetricAlgorithm = 'RS256' | 'ES256' | 'Ed25519';
/** All supported algorithms. Names are compared exactly; `none` is not supported. */
export type SigningAlgorithm = 'HS256' | AsymmetricAlgorithm;

const SIGNING_ALGORITHMS: ReadonlySet<unknown> = new Set<SigningAlgorithm>(['HS256', 'RS256', 'ES256', 'Ed25519']);

/** Whether the value is a supported algorithm, with exact case (RFC 7515 section 4.1.1). */
export function isSigningAlgorithm(value: unknown): value is SigningAlgorithm {
  return SIGNING_ALGORITHMS.has(value);
}

/**
 * `access`: signed by the service (RFC 9068). `key_signed`: signed with a secret derived from the key (HS256), by the
 * holder or by the service. A token of one kind is never valid as the other (RFC 8725 section 3.12).
 */
export type TokenKind = 'access' | 'key_signed';

/** The `typ` of each kind. */
export const TOKEN_TYPES: Readonly<Record<TokenKind, string>> = { access: 'at+jwt', key_signed: 'pantheon-key+jwt' };

/** The kind of a header; null when the `typ` is unknown or does not fit the algorithm. */
export function tokenKindOf(header: { readonly typ: string; readonly alg: SigningAlgorithm }): TokenKind | null {
  // Whoever can verify HS256 can also sign, so access tokens never use it; key-signed tokens use nothing else.
  if (header.typ === TOKEN_TYPES.key_signed) return header.alg === 'HS256' ? 'key_signed' : null;
  const isAccess = header.typ === TOKEN_TYPES.access || header.typ === `application/${TOKEN_TYPES.access}`;
  return isAccess && header.alg !== 'HS256' ? 'access' : null;
}

/** Clocks with NTP differ by less. A larger leeway would only prolong stolen tokens. */
export const LEEWAY_SECONDS_DEFAULT = 30;
/** A larger difference is a broken clock. */
export const LEEWAY_SECONDS_MAX = 120;
/** The longest time for which, by default, a verifier that has only the JWKS accepts a token of a revoked key (I7). */
export const ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS = 300;
/** Clients that need longer exchange the key again, which also notices a revocation. */
export const ACCESS_TOKEN_LIFETIME_MAX_SECONDS = 3600;
/** The holder can sign another one offline at any time, so a longer lifetime has no benefit (RFC 7523bis). */
export const KEY_SIGNED_LIFETIME_MAX_SECONDS = 300;

/** The most audiences of a token, and of the policy of a key. Each is compared with the accepted ones. */
export const AUDIENCES_MAX = 16;
/** Characters of one audience: enough for URLs in use. Two of this length and the other claims fit into a header. */
export const AUDIENCE_LENGTH_MAX = 512;
/** The characters of an audience and of an issuer: printable ASCII without spaces. */
export const AUDIENCE_PATTERN: RegExp = /^[\x21-\x7e]+$/;
/** Ids of users come from other systems; no common one is longer than an e-mail address (254). */
export const SUBJECT_LENGTH_MAX = 256;
/** Characters of a `jti`: enough for a UUID, a ULID or a digest in any notation. A revocation is stored under it. */
export const TOKEN_ID_LENGTH_MAX = 128;
/** Times are accepted up to the year 36812: in milliseconds too they are exact integers. */
const NUMERIC_DATE_END = 2 ** 40;

/** The claims of both kinds. Times are in seconds. */
interface RegisteredClaims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: readonly string[];
  /** The id of the API key. */
  readonly client_id: string;
  readonly exp: number;
  readonly iat: number;
  readonly nbf?: number;
  readonly jti: string;
  /** Permissions, each separated from the next by one space. */
  readonly scope?: string;
}

/** The claims of an `access` token. */
export interface AccessTokenClaims extends RegisteredClaims {
  readonly kind: 'access';
  readonly tenant_id: string;
  readonly key_version: number;
  readonly environment: 'live' | 'test';
  /** The custom claims of the key. Never contains a name of {@link RESERVED_CLAIMS}. */
  readonly custom: JsonObject;
}

/** The claims of a `key_signed` token. Without custom claims, which come from the record and not from the holder. */
export interface KeySignedClaims extends RegisteredClaims {
  readonly kind: 'key_signed';
}

export type Claims = AccessTokenClaims | KeySignedClaims;

/** Reads the payload of a token of that kind; null when a claim is missing, has a wrong type or exceeds its bound. */
export function parseClaims(kind: 'access', payload: JsonObject): AccessTokenClaims | null;
export function parseClaims(kind: 'key_signed', payload: JsonObject): KeySignedClaims | null;
export function parseClaims(kind: TokenKind, payload: JsonObject): Claims | null;
export function parseClaims(kind: TokenKind, payload: JsonObject): Claims | null {
  const registered = parseRegistered(payload);
  if (registered === null) return null;
  if (kind === 'key_signed') return registered.sub === registered.client_id ? { kind, ...registered } : null;
  const { tenant_id, key_version, environment } = payload;
  if (typeof tenant_id !== 'string' || !TENANT_ID_PATTERN.test(tenant_id)) return null;
  if (!isNumericDate(key_version) || key_version < 1) return null;
  if (environment !== 'live' && environment !== 'test') return null;
  return { kind, ...registered, tenant_id, key_version, environment, custom: withoutReserved(payload) };
}

function parseRegistered(payload: JsonObject): RegisteredClaims | null {
  const { iss, sub, client_id, exp, iat, nbf, jti, scope } = payload;
  const aud = parseAudience(payload['aud']);
  // A token bound to a proof of possession (RFC 7800) is refused, because the proof is not checked here.
  if (Object.hasOwn(payload, 'cnf')) return null;
  if (!isText(iss, AUDIENCE_LENGTH_MAX) || !isText(sub, SUBJECT_LENGTH_MAX)) return null;
  if (!isText(jti, TOKEN_ID_LENGTH_MAX)) return null;
  if (typeof client_id !== 'string' || !ID_PATTERN.test(client_id)) return null;
  if (aud === null || !isNumericDate(exp) || !isNumericDate(iat)) return null;
  if (nbf !== undefined && !isNumericDate(nbf)) return null;
  if ((scope !== undefined && typeof scope !== 'string') || permissionsOfScope(scope) === null) return null;
  return {
    ...{ iss, sub, aud, client_id, exp, iat, jti },
    ...(nbf === undefined ? {} : { nbf }),
    ...(scope === undefined ? {} : { scope }),
  };
}

function parseAudience(aud: Json | undefined): readonly string[] | null {
  const list: readonly (Json | undefined)[] = Array.isArray(aud) ? aud : [aud];
  if (list.length === 0 || list.length > AUDIENCES_MAX) return null;
  return list.every((audience) => isText(audience, AUDIENCE_LENGTH_MAX)) ? (list as readonly string[]) : null;
}

function isText(value: Json | undefined, lengthMax: number): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= lengthMax;
}

function isNumericDate(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < NUMERIC_DATE_END;
}

/**
 * The permissions in a `scope`; null when it is empty, too long a list, or one of them is not well formed. A token
 * without a scope has no permissions, so one restricted to nothing is never taken for an unrestricted one.
 */
export function permissionsOfScope(scope: string | undefined): readonly string[] | null {
  if (scope === undefined) return [];
  const permissions = scope.split(' ', PERMISSIONS_MAX + 1);
  return permissions.length <= PERMISSIONS_MAX && permissions.every(isPermissionPattern) ? permissions : null;
}

/** The expectations of a verifier. */
export interface ClaimExpectations {
  readonly issuer: string;
  /** The token must have one of these audiences, compared exactly. */
  readonly audience: readonly string[];
  /** Whether to refuse a token with a further audience: that service receives the token too and could use it here. */
  readonly audienceOnly: boolean;
  readonly now: Instant;
  /** Limited to {@link LEEWAY_SECONDS_MAX}. */
  readonly leewaySeconds: number;
  readonly lifetimeMaxSeconds: number;
}

/**
 * Checks the claims; null when they are valid. Permanent reasons come first. `unknown`: this issuer cannot have issued
 * the token (another issuer, a lifetime that is too long or negative).
 */
export function checkClaims(
  claims: Claims,
  expectations: ClaimExpectations,
): null | 'expired' | 'not_yet_active' | 'wrong_audience' | 'unknown' {
  const { issuer, audience, audienceOnly, now, leewaySeconds, lifetimeMaxSeconds } = expectations;
  const leewayMs = Math.min(leewaySeconds, LEEWAY_SECONDS_MAX) * SECOND_MS;
  const startSeconds = Math.max(claims.iat, claims.nbf ?? 0);
  if (claims.iss !== issuer) return 'unknown';
  // Each comparison denies for NaN.
  if (!(now < claims.exp * SECOND_MS + leewayMs)) return 'expired';
  if (!(claims.exp >= startSeconds && claims.exp - claims.iat <= lifetimeMaxSeconds)) return 'unknown';
  if (!(startSeconds * SECOND_MS <= now + leewayMs)) return 'not_yet_active';
  const isMeant = (one: string): boolean => audience.includes(one);
  return (audienceOnly ? claims.aud.every(isMeant) : claims.aud.some(isMeant)) ? null : 'wrong_audience';
}

/** Claims that only the service sets, because they decide the kind, the subject and the permissions of a token. */
export const RESERVED_CLAIMS: ReadonlySet<string> = new Set([
  ...['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'client_id', 'scope', 'cnf', 'act', 'may_act', 'status'],
  ...['typ', 'kid', 'tenant_id', 'key_version', 'environment', 'permissions'],
  ...['__proto__', 'constructor', 'prototype'],
]);

/** For more data, use one claim with the id of a record that the verifier can read. */
export const CUSTOM_CLAIMS_MAX = 32;
/**
 * In base64url these are 5 462 of the 8 192 characters of a token. The rest is for its other claims and the signature.
 */
export const CUSTOM_CLAIMS_BYTES_MAX = 4096;
/** Also the maximum depth of the JSON of any token (`jwt/jws.ts`). */
export const CUSTOM_CLAIMS_DEPTH_MAX = 8;
/** Long enough for namespaced names, which are URLs. */
export const CUSTOM_CLAIM_NAME_LENGTH_MAX = 256;

/**
 * Checks custom claims: null when valid, else the name of the invalid claim, or `''` when all together are invalid: not
 * a plain object, too many, too large. Accepts any value as input.
 */
export function checkCustomClaims(claims: unknown): string | null {
  if (!isPlainObject(claims)) return '';
  const names = Object.keys(claims);
  if (names.length > CUSTOM_CLAIMS_MAX) return '';
  const budget = { left: CUSTOM_CLAIMS_BYTES_MAX };
  for (const name of names) {
    const isNamed = name.length > 0 && name.length <= CUSTOM_CLAIM_NAME_LENGTH_MAX && name.isWellFormed();
    if (!isNamed) return name.slice(0, CUSTOM_CLAIM_NAME_LENGTH_MAX).toWellFormed();
    if (RESERVED_CLAIMS.has(name)) return name;
    if (!isClaimValue(claims[name], CUSTOM_CLAIMS_DEPTH_MAX - 1, budget)) return budget.left < 0 ? '' : name;
  }
  return Buffer.byteLength(canonicalJson(claims)) > CUSTOM_CLAIMS_BYTES_MAX ? '' : null;
}

/**
 * Whether the value is plain JSON. Each value and character is subtracted from a budget before it is visited, so cyclic
 * or huge values end early; the depth bounds the recursion.
 */
function isClaimValue(value: unknown, depthLeft: number, budget: { left: number }): boolean {
  budget.left -= typeof value === 'string' ? value.length + 1 : 1;
  if (budget.left < 0) return false;
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value === 'number') return Number.isFinite(value);
  if (value === null || typeof value === 'boolean') return true;
  if (depthLeft === 0) return false;
  if (Array.isArray(value)) {
    budget.left -= value.length;
    if (budget.left < 0) return false;
    // Copied, because `every` skips the holes of a sparse array.
    return Array.from<unknown>(value).every((item) => isClaimValue(item, depthLeft - 1, budget));
  }
  if (!isPlainObject(value)) return false;
  return Object.keys(value).every(
    (name) =>
      !FORBIDDEN_MEMBERS.has(name) &&
      isClaimValue(name, depthLeft, budget) &&
      isClaimValue(value[name], depthLeft - 1, budget),
  );
}

/** The input of {@link buildKeySignedClaims}. */
export interface KeySignedFacts {
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly keyId: string;
  readonly tokenId: string;
  readonly permissions: readonly string[];
  readonly now: Instant;
  readonly lifetimeSeconds: number;
  /** When the key expires; no token expires later. Null: never. */
  readonly keyExpiresAt: Instant | null;
}

/** The input of {@link buildAccessTokenClaims}. */
export interface AccessTokenFacts extends KeySignedFacts {
  readonly subject: string;
  readonly tenantId: string;
  readonly keyVersion: number;
  readonly environment: 'live' | 'test';
  readonly customClaims: JsonObject;
}

/**
 * The payload of an `access` token. Reserved names are dropped and our claims come last, so that a custom claim
 * overrides nothing.
 */
export function buildAccessTokenClaims(facts: AccessTokenFacts): JsonObject {
  return {
    ...withoutReserved(facts.customClaims),
    ...buildKeySignedClaims(facts),
    sub: facts.subject,
    tenant_id: facts.tenantId,
    key_version: facts.keyVersion,
    environment: facts.environment,
  };
}

/** The payload of a `key_signed` token. */
export function buildKeySignedClaims(facts: KeySignedFacts): JsonObject {
  const iat = Math.floor(facts.now / SECOND_MS);
  const keyExpiry = facts.keyExpiresAt === null ? Number.POSITIVE_INFINITY : Math.floor(facts.keyExpiresAt / SECOND_MS);
  return {
    iss: facts.issuer,
    sub: facts.keyId,
    // A single audience as a string, which every verifier accepts; RFC 7519 section 4.1.3 allows both.
    aud: facts.audience.length === 1 ? (facts.audience[0] as string) : facts.audience,
    client_id: facts.keyId,
    exp: Math.min(iat + facts.lifetimeSeconds, keyExpiry),
    iat,
    jti: facts.tokenId,
    ...(facts.permissions.length === 0 ? {} : { scope: facts.permissions.join(' ') }),
  };
}

/** The claims of a policy that a token may contain. Copied by entries: an assignment would run the setter of `__proto__`. */
export function withoutReserved(claims: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !RESERVED_CLAIMS.has(name)));
}
