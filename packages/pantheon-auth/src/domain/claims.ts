/**
 * What our tokens say: the two kinds, their claims, and the checks of both. Everything here is pure and takes the time
 * as an argument. How a token is signed and taken apart is `jwt/jws.ts`; whether its key may still act is `verification.ts`.
 */
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import { canonicalJson, type Json, type JsonObject } from '../foundation/encoding.ts';
import { ID_PATTERN } from '../foundation/ids.ts';
import { FORBIDDEN_MEMBERS } from '../foundation/strict-json.ts';
import { isPermissionPattern, PERMISSIONS_MAX } from './permissions.ts';
import { TENANT_ID_PATTERN } from './tenant-id.ts';

/** Signs with a key pair: anyone who has the public key can verify. */
export type AsymmetricAlgorithm = 'RS256' | 'ES256' | 'Ed25519';
/** The only algorithms there are. Names are compared exactly; `none` is not among them. */
export type SigningAlgorithm = 'HS256' | AsymmetricAlgorithm;

const SIGNING_ALGORITHMS: ReadonlySet<unknown> = new Set<SigningAlgorithm>(['HS256', 'RS256', 'ES256', 'Ed25519']);

/** Whether the value names an algorithm of ours, in exactly its case (RFC 7515 section 4.1.1). */
export function isSigningAlgorithm(value: unknown): value is SigningAlgorithm {
  return SIGNING_ALGORITHMS.has(value);
}

/**
 * `access`: a statement by the server about a key (RFC 9068). `key_signed`: a statement by the key itself, made by its
 * holder or by the server with the secret both can derive. The rules of the two exclude each other (RFC 8725 section 3.12).
 */
export type TokenKind = 'access' | 'key_signed';

/** The `typ` that each kind is written with. */
export const TOKEN_TYPES: Readonly<Record<TokenKind, string>> = { access: 'at+jwt', key_signed: 'pantheon-key+jwt' };

/** Which kind a header announces; null when its `typ` is none of ours or its algorithm cannot make that kind. */
export function tokenKindOf(header: { readonly typ: string; readonly alg: SigningAlgorithm }): TokenKind | null {
  // Whoever can verify HS256 can also sign, so it never states what the *server* says, and nothing else is a key's own word.
  if (header.typ === TOKEN_TYPES.key_signed) return header.alg === 'HS256' ? 'key_signed' : null;
  const isAccess = header.typ === TOKEN_TYPES.access || header.typ === `application/${TOKEN_TYPES.access}`;
  return isAccess && header.alg !== 'HS256' ? 'access' : null;
}

/** Clocks that follow NTP are closer than this; a larger one only lengthens the life of what is stolen. */
export const LEEWAY_SECONDS_DEFAULT = 30;
/** More is a broken clock, which must be repaired and not tolerated. */
export const LEEWAY_SECONDS_MAX = 120;
/** How long a verifier that has only the JWKS accepts a token of a revoked key (I7). */
export const ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS = 300;
/** A longer need is met by asking again, which costs one exchange and notices a revocation. */
export const ACCESS_TOKEN_LIFETIME_MAX_SECONDS = 3600;
/** Its holder can make the next one offline at any time, so nothing is gained by a longer one (RFC 7523bis). */
export const KEY_SIGNED_LIFETIME_MAX_SECONDS = 300;

/** Audiences of one token, and those that the policy of a key may name: each is searched for a match. */
export const AUDIENCES_MAX = 16;
/** Characters of one audience: a URL that people still read. Two of them and the claims around fit a header. */
export const AUDIENCE_LENGTH_MAX = 512;
/** Ids of users come from other systems; no common one is longer than an e-mail address (254). */
export const SUBJECT_LENGTH_MAX = 256;
/** Room for a UUID, a ULID or a digest in any notation. It becomes the key of a revocation. */
export const TOKEN_ID_LENGTH_MAX = 128;
/** Seconds up to the year 36812: far beyond any meaning, and exact in every arithmetic that follows. */
const NUMERIC_DATE_END = 2 ** 40;

/** What both kinds say. Times are in seconds. */
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
  /** What the owner of the key had put in. Never holds a name of {@link RESERVED_CLAIMS}. */
  readonly custom: JsonObject;
}

/** The claims of a `key_signed` token. It has no custom claims: those come from the record, not from the holder. */
export interface KeySignedClaims extends RegisteredClaims {
  readonly kind: 'key_signed';
}

export type Claims = AccessTokenClaims | KeySignedClaims;

/** Reads the payload of a token of that kind; null when a claim is missing, has another type or passes its bound. */
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
  // Bound to a proof of possession (RFC 7800), which nothing here checks: accepting it would make it a bearer token.
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
 * without a scope grants nothing: so one that was narrowed to nothing can never be read as one for everything.
 */
export function permissionsOfScope(scope: string | undefined): readonly string[] | null {
  if (scope === undefined) return [];
  const permissions = scope.split(' ', PERMISSIONS_MAX + 1);
  return permissions.length <= PERMISSIONS_MAX && permissions.every(isPermissionPattern) ? permissions : null;
}

/** What a verifier expects of a token. */
export interface ClaimExpectations {
  readonly issuer: string;
  /** One of these must be among the token's; compared exactly. */
  readonly audience: readonly string[];
  /** No other one may be among the token's: whoever it is meant for as well could use it here. */
  readonly audienceOnly: boolean;
  readonly now: Instant;
  /** Counted as at most {@link LEEWAY_SECONDS_MAX}. */
  readonly leewaySeconds: number;
  readonly lifetimeMaxSeconds: number;
}

/**
 * Whether the claims hold here and now; null when they do. Lasting facts come first. `unknown` is for what this issuer
 * would never have said: another issuer, a life that is too long or ends before it begins.
 */
export function checkClaims(
  claims: Claims,
  expectations: ClaimExpectations,
): null | 'expired' | 'not_yet_active' | 'wrong_audience' | 'unknown' {
  const { issuer, audience, audienceOnly, now, leewaySeconds, lifetimeMaxSeconds } = expectations;
  const leewayMs = Math.min(leewaySeconds, LEEWAY_SECONDS_MAX) * SECOND_MS;
  const startSeconds = Math.max(claims.iat, claims.nbf ?? 0);
  if (claims.iss !== issuer) return 'unknown';
  // Each comparison is written so that NaN refuses.
  if (!(now < claims.exp * SECOND_MS + leewayMs)) return 'expired';
  if (!(claims.exp >= startSeconds && claims.exp - claims.iat <= lifetimeMaxSeconds)) return 'unknown';
  if (!(startSeconds * SECOND_MS <= now + leewayMs)) return 'not_yet_active';
  const isMeant = (one: string): boolean => audience.includes(one);
  return (audienceOnly ? claims.aud.every(isMeant) : claims.aud.some(isMeant)) ? null : 'wrong_audience';
}

/** Names that only we may set: what they say decides what a token is, whose it is and what it may do. */
export const RESERVED_CLAIMS: ReadonlySet<string> = new Set([
  ...['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'client_id', 'scope', 'cnf', 'act', 'may_act', 'status'],
  ...['typ', 'kid', 'tenant_id', 'key_version', 'environment', 'permissions'],
  ...['__proto__', 'constructor', 'prototype'],
]);

/** More belongs into a record that the claims point to. */
export const CUSTOM_CLAIMS_MAX = 32;
/** Leaves half of the 8 KiB of a token, in base64url, for everything else in it. */
export const CUSTOM_CLAIMS_BYTES_MAX = 4096;
/** Nobody reads deeper claims. It is also how deep the JSON of any token may be (`jwt/jws.ts`). */
export const CUSTOM_CLAIMS_DEPTH_MAX = 8;
/** Namespaced names are URLs. */
export const CUSTOM_CLAIM_NAME_LENGTH_MAX = 256;

/**
 * Whether these may be put into tokens: null when they may, else the name of the claim at fault, or `''` when it is the
 * whole: not a plain object, too many, too large. Takes any value, also one that no JSON text can make.
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
 * Whether JSON can say the value as it is. Each value and each character is paid from the budget before it is looked
 * at, so a value that contains itself, or a huge one, ends the walk early; the depth bounds the recursion.
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
    // A copy, because `every` passes over the holes of a sparse array.
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

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** What {@link buildKeySignedClaims} makes claims from. */
export interface KeySignedFacts {
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly keyId: string;
  readonly tokenId: string;
  readonly permissions: readonly string[];
  readonly now: Instant;
  readonly lifetimeSeconds: number;
  /** When the key expires: no token of it lives longer. Null: it does not. */
  readonly keyExpiresAt: Instant | null;
}

/** What {@link buildAccessTokenClaims} makes claims from. */
export interface AccessTokenFacts extends KeySignedFacts {
  readonly subject: string;
  readonly tenantId: string;
  readonly keyVersion: number;
  readonly environment: 'live' | 'test';
  readonly customClaims: JsonObject;
}

/** The payload of an `access` token. Ours come last and reserved names are dropped, so that a custom claim overrides nothing. */
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
    // A single audience as a string, which every verifier reads; RFC 7519 section 4.1.3 allows both.
    aud: facts.audience.length === 1 ? (facts.audience[0] as string) : facts.audience,
    client_id: facts.keyId,
    exp: Math.min(iat + facts.lifetimeSeconds, keyExpiry),
    iat,
    jti: facts.tokenId,
    ...(facts.permissions.length === 0 ? {} : { scope: facts.permissions.join(' ') }),
  };
}

/** Copied by entries and not by assignment, which would run the setter of `__proto__`. */
function withoutReserved(claims: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !RESERVED_CLAIMS.has(name)));
}
