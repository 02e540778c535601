/**
 * Turns a presented token into a verdict: taken apart, its signature checked (once per token), its claims, and then its
 * key, by the same six steps as the key itself. So a token dies with its key, its version or its signing key (I7).
 */
import { createSecretKey, hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import {
  type KeyValidator,
  type Proof,
  toCost,
  toDemand,
  type Verification,
  type VerifyRequest,
} from '../api-keys/key-validator.ts';
import type { KnownKey } from '../api-keys/verification-cache.ts';
import {
  ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  type AccessTokenClaims,
  type Claims,
  checkClaims,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
  type KeySignedClaims,
  LEEWAY_SECONDS_DEFAULT,
  parseClaims,
  permissionsOfScope,
  tokenKindOf,
} from '../domain/claims.ts';
import { intersect } from '../domain/permissions.ts';
import { type Demand, type Denial, decidePermissions } from '../domain/verification.ts';
import { type Clock, type Instant, SECOND_MS } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { type ParsedJws, parseJws, verifyJws } from './jws.ts';
import { keyIdOfKid } from './key-derivation.ts';
import type { TokenRevocations } from './revocation.ts';
import type { SigningKeyring } from './signing-keyring.ts';

export interface VerifyTokenRequest extends Omit<VerifyRequest, 'key'> {
  readonly token: string;
  /** One of these must be among the token's. Default: the service's own. */
  readonly audience?: readonly string[];
}

/** What a verified token says, beside what its key is. */
export interface VerifiedToken {
  readonly tokenId: string;
  readonly kind: Claims['kind'];
  readonly subject: string;
  readonly audience: readonly string[];
  /** What both the token and its key allow. */
  readonly permissions: readonly string[];
  readonly issuedAt: Instant;
  readonly expiresAt: Instant;
  readonly customClaims: JsonObject;
}

export type TokenVerification =
  | (Extract<Verification, { valid: true }> & { readonly token: VerifiedToken })
  | Extract<Verification, { valid: false }>;

/** About 1.5 kB each. A token that is seen again costs a hash and not a signature. */
export const SEEN_TOKENS_MAX = 20_000;

/** A token whose signature was checked, with what it was checked against. */
interface SeenToken {
  readonly claims: Claims;
  readonly kid: string;
}

export class TokenVerifier {
  readonly #validator: KeyValidator;
  readonly #keyring: SigningKeyring;
  readonly #revocations: TokenRevocations;
  readonly #clock: Clock;
  readonly #settings: { readonly issuer: string; readonly audience: readonly string[] };
  /** By the SHA-256 of the whole token: no part of it, however long, stands for another (CVE-2026-35030). */
  readonly #seen = new LRUCache<string, SeenToken>({ max: SEEN_TOKENS_MAX });

  constructor(deps: {
    readonly validator: KeyValidator;
    readonly keyring: SigningKeyring;
    readonly revocations: TokenRevocations;
    readonly clock: Clock;
    readonly settings: { readonly issuer: string; readonly audience: readonly string[] };
  }) {
    this.#validator = deps.validator;
    this.#keyring = deps.keyring;
    this.#revocations = deps.revocations;
    this.#clock = deps.clock;
    this.#settings = deps.settings;
  }

  /** Whether this token may act now. A "no" is a value. @throws PantheonError `invalid_request`, 503 codes. */
  async verify(request: VerifyTokenRequest): Promise<TokenVerification> {
    const arrivedMs = this.#clock.monotonicMs();
    const demand = toDemand(request);
    const cost = toCost(request.cost);
    const digest = hash('sha256', request.token, 'base64');

    const seen = this.#seen.get(digest);
    const parsed = seen === undefined ? parseJws(request.token) : null;
    const claims = seen?.claims ?? claimsOf(parsed);
    if (claims === null) return this.#validator.unproved('malformed', demand.address);
    const token: PresentedToken = { claims, kid: seen?.kid ?? parsed?.header.kid ?? '', unverified: parsed };

    const prove = this.#prover(token, demand, request.audience ?? this.#settings.audience);
    if (prove === null) return this.#validator.unproved('unknown', demand.address);
    const verification = await this.#validator.use({ keyId: claims.client_id, arrivedMs, demand, cost, prove });
    if (!verification.valid) return verification;
    if (seen === undefined) this.#seen.set(digest, { claims, kid: token.kid });
    return { ...verification, token: verifiedToken(claims, verification.key.permissions) };
  }

  /** How the token proves a version of its key; null when its signature already shows that it is not ours. */
  #prover(
    token: PresentedToken,
    demand: Demand,
    audience: readonly string[],
  ): ((facts: KnownKey | null) => Proof | null) | null {
    const { claims } = token;
    if (claims.kind === 'key_signed') return (facts) => this.#proveKeySigned(token, claims, facts, demand, audience);
    const key = this.#keyring.verifier(token.kid);
    if (key === null || !(token.unverified === null || verifyJws(token.unverified, key))) return null;
    return (facts) => this.#proveAccess(token, claims, facts, demand, audience);
  }

  #proveAccess(
    token: PresentedToken,
    claims: AccessTokenClaims,
    facts: KnownKey | null,
    demand: Demand,
    audience: readonly string[],
  ): Proof | null {
    // Asked again each time: the signing key may have been retired since.
    if (this.#keyring.verifier(token.kid) === null) return null;
    const version = facts?.record.versions.find((one) => one.version === claims.key_version);
    if (facts === null || version === undefined || facts.record.tenantId !== claims.tenant_id) return null;
    return { version, denial: this.#deny(claims, facts, demand, audience, ACCESS_TOKEN_LIFETIME_MAX_SECONDS) };
  }

  #proveKeySigned(
    token: PresentedToken,
    claims: KeySignedClaims,
    facts: KnownKey | null,
    demand: Demand,
    audience: readonly string[],
  ): Proof | null {
    if (facts?.record.jwt?.algorithm !== 'HS256' || keyIdOfKid(token.kid)?.keyId !== claims.client_id) return null;
    const secret = facts.secrets.find(({ signing }) => signing?.kid === token.kid);
    const version = facts.record.versions.find((one) => one.version === secret?.version);
    if (secret?.signing == null || version === undefined) return null;
    const key = { algorithm: 'HS256', key: createSecretKey(secret.signing.secret) } as const;
    if (token.unverified !== null && !verifyJws(token.unverified, key)) return null;
    const policy = facts.record.jwt.audience;
    const allowed = policy.length === 0 ? this.#settings.audience : policy;
    if (!claims.aud.every((one) => allowed.includes(one))) return { version, denial: { code: 'wrong_audience' } };
    return { version, denial: this.#deny(claims, facts, demand, audience, KEY_SIGNED_LIFETIME_MAX_SECONDS) };
  }

  /** What the token itself says against its use. */
  #deny(
    claims: Claims,
    { record }: KnownKey,
    demand: Demand,
    audience: readonly string[],
    lifetimeMaxSeconds: number,
  ): Denial | null {
    const { issuer } = this.#settings;
    const code = checkClaims(claims, {
      issuer,
      audience,
      now: this.#clock.now(),
      leewaySeconds: LEEWAY_SECONDS_DEFAULT,
      lifetimeMaxSeconds,
    });
    if (code !== null) return { code };
    if (this.#revocations.isRevoked(record.id, claims.jti)) return { code: 'revoked' };
    if (record.tokensNotBefore !== null && claims.iat * SECOND_MS < record.tokensNotBefore) return { code: 'revoked' };
    return decidePermissions(permissionsOfScope(claims.scope) ?? [], demand.permissions);
  }
}

/** A token taken apart. `unverified` is null when its signature has been checked before. */
interface PresentedToken {
  readonly claims: Claims;
  readonly kid: string;
  readonly unverified: ParsedJws | null;
}

function claimsOf(parsed: ParsedJws | null): Claims | null {
  const kind = parsed === null ? null : tokenKindOf(parsed.header);
  return parsed === null || kind === null ? null : parseClaims(kind, parsed.payload);
}

function verifiedToken(claims: Claims, held: readonly string[]): VerifiedToken {
  return {
    tokenId: claims.jti,
    kind: claims.kind,
    subject: claims.sub,
    audience: claims.aud,
    permissions: intersect(held, permissionsOfScope(claims.scope) ?? []),
    issuedAt: claims.iat * SECOND_MS,
    expiresAt: claims.exp * SECOND_MS,
    customClaims: claims.kind === 'access' ? claims.custom : {},
  };
}
