/** Issues tokens: chooses the claims and the signing key. The callers decide whether a key may have a token. */
import { KEY_REQUEST, type VerifyRequest } from '../api-keys/verify-request.ts';
import { invalid } from '../commands/input.ts';
import {
  type AccessTokenFacts,
  type AsymmetricAlgorithm,
  buildAccessTokenClaims,
  buildKeySignedClaims,
  checkCustomClaims,
  type SigningAlgorithm,
  TOKEN_TYPES,
} from '../domain/claims.ts';
import type { JwtSettings, KeyRecord } from '../domain/key.ts';
import { isPermissionPattern, isReserved, PERMISSIONS_MAX, PermissionSet } from '../domain/permissions.ts';
import {
  algorithmOf,
  audiencesOf,
  endOfVersion,
  issuedFrom,
  lifetimeMaxSeconds,
  secondOf,
} from '../domain/token-life.ts';
import { assertCertainTime, type Clock, earlier, type Instant, SECOND_MS } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { newId } from '../foundation/ids.ts';
import { assertMembers, type Members } from '../foundation/members.ts';
import { signJws } from './jws.ts';
import type { SigningKeyring } from './signing-keyring.ts';

/** Options of a token. Omitted ones come from the key's policy. */
export interface TokenOptions {
  /** The audiences. The key's policy must allow each of them. */
  readonly audience?: readonly string[];
  /** The permissions, which the key must have. Default: all permissions of the key except those under `pantheon:`. */
  readonly permissions?: readonly string[];
  readonly ttlSeconds?: number;
}

const TOKEN_OPTIONS: Members<keyof TokenOptions> = {
  audience: 'has_a_value',
  permissions: 'has_a_value',
  ttlSeconds: 'has_a_value',
};
/** Members of a request to exchange a key for a token. */
export const EXCHANGE_REQUEST: Members<keyof VerifyRequest | keyof TokenOptions> = { ...KEY_REQUEST, ...TOKEN_OPTIONS };

/**
 * Validates the form of the options. Permissions that are not a list must not count as omitted, because the token would
 * then get all permissions of the key.
 *
 * @throws PantheonError `invalid_request`, naming the option.
 */
export function assertTokenOptions(options: TokenOptions, members: Members<string> = TOKEN_OPTIONS): void {
  assertMembers(options, members, 'options');
  const { audience, permissions, ttlSeconds } = options;
  if (audience !== undefined) assertAudience(audience);
  if (permissions !== undefined) assertTexts('permissions', permissions);
  if (ttlSeconds !== undefined && typeof ttlSeconds !== 'number') throw invalid('ttl', 'A number of seconds.');
}

/** @throws PantheonError `invalid_request` if it is not a list of strings. */
export function assertAudience(audience: readonly string[]): void {
  assertTexts('audience', audience);
}

function assertTexts(field: string, texts: readonly unknown[]): void {
  if (!Array.isArray(texts)) throw invalid(field, 'A list of texts.');
  const wrongAt = texts.findIndex((one) => typeof one !== 'string');
  if (wrongAt !== -1) throw invalid(`${field}[${wrongAt}]`, 'A text.');
}

/** An issued token. */
export interface IssuedToken {
  readonly token: string;
  readonly tokenId: string;
  readonly keyId: string;
  readonly algorithm: SigningAlgorithm;
  readonly audience: readonly string[];
  readonly permissions: readonly string[];
  readonly issuedAt: Instant;
  readonly expiresAt: Instant;
}

/** The HS256 secret of a key, and its `kid`. */
export interface KeySigner {
  readonly kid: string;
  readonly secret: Buffer;
}

export interface TokenIssuerSettings {
  readonly issuer: string;
  /** Audiences for keys whose policy names none. */
  readonly audience: readonly string[];
}

/**
 * The audiences of the service itself, allowed for every key whose policy names none. The first is the default; the
 * last is the issuer, which is the audience of the management API.
 */
export function ownAudiences({ issuer, audience }: TokenIssuerSettings): readonly string[] {
  return audience.includes(issuer) ? audience : [...audience, issuer];
}

export class TokenIssuer {
  readonly #keyring: SigningKeyring;
  readonly #clock: Clock;
  readonly #settings: TokenIssuerSettings;

  constructor(deps: {
    readonly keyring: SigningKeyring;
    readonly clock: Clock;
    readonly settings: TokenIssuerSettings;
  }) {
    this.#keyring = deps.keyring;
    this.#clock = deps.clock;
    this.#settings = deps.settings;
  }

  /**
   * Issues a token for this key and version by the key's policy. `signer`: the HS256 secret of the version, if there is
   * one.
   *
   * @throws PantheonError `invalid_request` (field `audience`, `permissions` or `ttl`), `signing_secret_unavailable`,
   * `signing_key_unavailable`, `clock_in_doubt`.
   */
  issue(record: KeyRecord, version: number, signer: KeySigner | null, options: TokenOptions): IssuedToken {
    assertCertainTime(this.#clock);
    const algorithm = algorithmOf(record.jwt);
    const audience = this.#audience(record, options);
    const permissions = narrowed(record.permissions, options.permissions);
    const ends = endOfVersion(record, version);
    const life = this.#life(record, version, options.ttlSeconds, ends);
    const common = {
      issuer: this.#settings.issuer,
      audience,
      keyId: record.id,
      tokenId: newId(),
      permissions,
      ...life,
    };
    const token =
      algorithm === 'HS256'
        ? signWithKey(buildKeySignedClaims(common), signer)
        : this.sign(algorithm, { ...common, ...ofRecord(record, version) });
    const issuedAt = secondOf(life.now);
    const expiresAt = secondOf(earlier(issuedAt + life.lifetimeSeconds * SECOND_MS, ends));
    return { token, tokenId: common.tokenId, keyId: record.id, algorithm, audience, permissions, issuedAt, expiresAt };
  }

  /** Signs an access token with these facts. */
  sign(algorithm: AsymmetricAlgorithm, facts: AccessTokenFacts): string {
    const { record, privateKey } = this.#keyring.signer(algorithm);
    const header = { alg: algorithm, kid: record.kid, typ: TOKEN_TYPES.access };
    return signJws({ header, payload: buildAccessTokenClaims(facts), key: privateKey });
  }

  #audience(record: KeyRecord, options: TokenOptions): readonly string[] {
    const allowed = audiencesOf(record.jwt, ownAudiences(this.#settings));
    if (options.audience === undefined || options.audience.length === 0) return allowed.slice(0, 1);
    if (options.audience.every((audience) => allowed.includes(audience))) return [...new Set(options.audience)];
    throw new PantheonError('invalid_request', {
      field: 'audience',
      detail: 'The policy of the key does not allow this audience.',
    });
  }

  #life(record: KeyRecord, version: number, ttlSeconds: number | undefined, ends: Instant | null): Life {
    const maxSeconds = lifetimeMaxSeconds(record.jwt);
    const lifetimeSeconds = ttlSeconds ?? maxSeconds;
    if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 1 || lifetimeSeconds > maxSeconds) {
      throw new PantheonError('invalid_request', { field: 'ttl', detail: `Whole seconds from 1 to ${maxSeconds}.` });
    }
    // A token issued in the same second as a revocation, or as the replacement of a secret, must have a later `iat`.
    const from = issuedFrom(record, record.versions.find((one) => one.version === version) ?? null);
    return { now: Math.max(this.#clock.now(), from), lifetimeSeconds, keyExpiresAt: ends };
  }
}

/**
 * The longest lifetime of tokens that anybody with the public keys can verify. Null: the policy uses HS256, and only
 * this service verifies such tokens.
 */
export function offlineLifetimeMaxSeconds(jwt: JwtSettings | null): number | null {
  return algorithmOf(jwt) === 'HS256' ? null : lifetimeMaxSeconds(jwt);
}

interface Life {
  readonly now: Instant;
  readonly lifetimeSeconds: number;
  readonly keyExpiresAt: Instant | null;
}

type FactsOfRecord = Pick<AccessTokenFacts, 'subject' | 'tenantId' | 'keyVersion' | 'environment' | 'customClaims'>;

function ofRecord(record: KeyRecord, version: number): FactsOfRecord {
  const { userId, tenantId, environment, jwt } = record;
  return { subject: userId, tenantId, keyVersion: version, environment, customClaims: jwt?.customClaims ?? {} };
}

/** Signs with the HS256 secret of the key. */
export function signWithKey(payload: JsonObject, signer: KeySigner | null): string {
  if (signer === null) throw new PantheonError('signing_secret_unavailable');
  return signJws({
    header: { alg: 'HS256', kid: signer.kid, typ: TOKEN_TYPES.key_signed },
    payload,
    key: signer.secret,
  });
}

/**
 * @throws PantheonError `invalid_request` unless every requested permission is well formed and covered by those of the
 * key.
 */
function narrowed(held: readonly string[], wanted: readonly string[] | undefined): readonly string[] {
  // Management permissions must be requested by name, so that a token for an application API cannot manage keys.
  if (wanted === undefined) return held.filter((permission) => !isReserved(permission));
  if (wanted.length > PERMISSIONS_MAX)
    throw new PantheonError('invalid_request', { field: 'permissions', detail: `At most ${PERMISSIONS_MAX}.` });
  const set = new PermissionSet(held);
  for (const [at, permission] of wanted.entries()) {
    // The form is checked first: a space would put a second, unchecked permission into the scope.
    const detail = !isPermissionPattern(permission)
      ? 'Write segment(:segment)* of a-z 0-9 . _ - with * only as the last segment.'
      : set.grants(permission)
        ? null
        : 'The key does not hold this permission.';
    if (detail !== null) throw new PantheonError('invalid_request', { field: `permissions[${at}]`, detail });
  }
  return [...new Set(wanted)];
}

/** Parses the custom claims of `APIKeyMetadata`. @throws PantheonError `invalid_request`. */
export function parseCustomClaims(claims: unknown): JsonObject {
  if (checkCustomClaims(claims) !== null) {
    throw new PantheonError('invalid_request', {
      field: 'customClaims',
      detail: 'A claim has a reserved name, or the claims are too large.',
    });
  }
  return claims as JsonObject;
}
