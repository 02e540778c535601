/**
 * Turns a presented token into a verdict: taken apart, its signature checked (once per token), its claims, and then its
 * key, by the same six steps as the key itself. So a token dies with its key, its version or its signing key (I7).
 */
import { createSecretKey, hash } from 'node:crypto';
import { keyIdOfKid } from '../api-keys/key-derivation.ts';
import type { VersionSecret } from '../api-keys/key-storage.ts';
import type { KeyUse, KeyValidator, Verification } from '../api-keys/key-validator.ts';
import { senderOf } from '../api-keys/sender.ts';
import { toCost, toDemand, type VerifyRequest } from '../api-keys/verify-request.ts';
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
import type { PresentedToken } from '../domain/credential.ts';
import type { KeyVersion } from '../domain/key.ts';
import { intersect } from '../domain/permissions.ts';
import { type DecisiveRecord, type Demand, type Denial, decidePermissions } from '../domain/verification.ts';
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, type Instant, momentOf, SECOND_MS } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { memoryOf } from '../foundation/memory-size.ts';
import { TenantCache } from '../foundation/tenant-cache.ts';
import { JWS_LENGTH_MAX, type ParsedJws, parseJws, verifyJws } from './jws.ts';
import type { SigningKeyring } from './signing-keyring.ts';
import type { TokenStanding } from './token-standing.ts';

export interface VerifyTokenRequest extends Omit<VerifyRequest, 'key'> {
  readonly token: string;
  /** One of these must be among the token's. Default: the service's own. */
  readonly audience?: readonly string[];
  /** Whether a token that is meant for any other audience as well is refused. Default: it is not. */
  readonly audienceOnly?: boolean;
}

/** What a verified token says, beside what its key is. */
export interface VerifiedToken extends PresentedToken {
  readonly subject: string;
  readonly audience: readonly string[];
  /** What both the token and its key allow. */
  readonly permissions: readonly string[];
  readonly expiresAt: Instant;
  readonly customClaims: JsonObject;
}

export type TokenVerification =
  | (Extract<Verification, { valid: true }> & { readonly token: VerifiedToken })
  | Extract<Verification, { valid: false }>;

/** A token that is seen again costs a hash and not a signature. */
export const SEEN_TOKENS_MAX = 20_000;
/** A usual token takes 3 kB taken apart, and the longest 30 kB. */
export const SEEN_TOKENS_BYTES_MAX: number = 40 * 1_024 * 1_024;

/** A token taken apart. */
interface ReadToken {
  readonly claims: Claims;
  readonly kid: string;
  readonly algorithm: PresentedToken['algorithm'];
  /** The permissions that it names. */
  readonly scope: readonly string[];
  /** What its owner put into it. That of a token signed by a key is taken from the record, not from the holder. */
  custom: JsonObject;
  /** What is left of the scope in the permissions of the key that it was last seen with. */
  effective: { readonly held: readonly string[]; readonly permissions: readonly string[] } | null;
}

/** What a token has to stand up to. */
interface Trial {
  readonly token: ReadToken;
  /** Null when the signature has been checked before. */
  readonly unverified: ParsedJws | null;
  readonly demand: Demand;
  readonly audience: readonly string[];
  readonly audienceOnly: boolean;
}

export interface TokenVerifierDeps {
  readonly validator: KeyValidator;
  readonly feed: EventFeed;
  readonly keyring: SigningKeyring;
  readonly standing: TokenStanding;
  readonly clock: Clock;
  readonly settings: { readonly issuer: string; readonly audience: readonly string[] };
  readonly seenTokensBytesMax?: number;
}

export class TokenVerifier {
  readonly #validator: KeyValidator;
  readonly #feed: EventFeed;
  readonly #keyring: SigningKeyring;
  readonly #standing: TokenStanding;
  readonly #clock: Clock;
  readonly #settings: TokenVerifierDeps['settings'];
  /** By the SHA-256 of the whole token: no part of it, however long, stands for another (CVE-2026-35030). */
  readonly #seen: TenantCache<ReadToken>;

  constructor(deps: TokenVerifierDeps) {
    this.#validator = deps.validator;
    this.#feed = deps.feed;
    this.#keyring = deps.keyring;
    this.#standing = deps.standing;
    this.#clock = deps.clock;
    this.#settings = deps.settings;
    const bytesMax = deps.seenTokensBytesMax ?? SEEN_TOKENS_BYTES_MAX;
    this.#seen = new TenantCache({ bytesMax, entriesMax: SEEN_TOKENS_MAX, sizeOf: bytesOf });
  }

  /** What is accounted for the tokens that were seen. */
  get seenTokensBytes(): number {
    return this.#seen.bytes;
  }

  /** Whether this token may act now. A "no" is a value. @throws PantheonError `invalid_request`, 503 codes. */
  async verify(request: VerifyTokenRequest): Promise<TokenVerification> {
    const arrived = momentOf(this.#clock);
    const demand = toDemand(request);
    const cost = toCost(request.cost);
    const sender = senderOf(request, demand.address);
    const isText = typeof request.token === 'string';
    if (!isText || request.token.length > JWS_LENGTH_MAX) return this.#validator.unproved('malformed', sender);
    const digest = hash('sha256', request.token, 'latin1');

    const seen = this.#seen.get(digest);
    const unverified = seen === undefined ? parseJws(request.token) : null;
    const token = seen ?? readToken(unverified);
    if (token === null) return this.#validator.unproved('malformed', sender);

    // A signing key that is not known here may be the youngest one: only the log as it is now may say no (I5).
    const isSignerUnknown = token.claims.kind === 'access' && this.#keyring.verifier(token.kid) === null;
    if (isSignerUnknown) await this.#feed.confirm(arrived.monotonicMs);

    const { audience = this.#settings.audience, audienceOnly = false } = request;
    const trial: Trial = { token, unverified, demand, audience, audienceOnly };
    const prove =
      token.claims.kind === 'access'
        ? this.#accessProver(trial, token.claims)
        : this.#keySignedProver(trial, token.claims);
    if (prove === null) return this.#validator.unproved('unknown', sender);
    // The signature of an access token was checked before; one by the key itself is checked against the key's secrets.
    const isProvedBy =
      token.claims.kind === 'access'
        ? null
        : (secrets: readonly VersionSecret[]): boolean => isSignedByOneOf(secrets, token, unverified);
    const keyId = token.claims.client_id;
    const verification = await this.#validator.use({ keyId, arrived, demand, sender, cost, prove, isProvedBy });
    if (!verification.valid) return verification;
    if (seen === undefined) this.#seen.set(digest, verification.key.tenantId, token);
    return { ...verification, token: verifiedToken(token, trial.audience, verification.key.permissions) };
  }

  /** How an access token proves a version of its key. Null: its signature already shows that it is not ours. */
  #accessProver(trial: Trial, claims: AccessTokenClaims): KeyUse['prove'] | null {
    const { token, unverified } = trial;
    const key = this.#keyring.verifier(token.kid);
    if (key === null || !(unverified === null || verifyJws(unverified, key))) return null;
    return (facts, now) => {
      // Asked again each time: the signing key may have been retired since.
      if (facts === null || this.#keyring.verifier(token.kid) === null) return null;
      const version = facts.record.versions.find((one) => one.version === claims.key_version);
      if (version === undefined || facts.record.tenantId !== claims.tenant_id) return null;
      return { version, denial: this.#deny(trial, facts.record, version, now) };
    };
  }

  /** How a token that the key itself signed proves a version: only its key can tell. */
  #keySignedProver(trial: Trial, claims: KeySignedClaims): KeyUse['prove'] {
    const { token, unverified } = trial;
    return (facts, now) => {
      const jwt = facts?.record.jwt;
      if (facts === null || jwt?.algorithm !== 'HS256' || keyIdOfKid(token.kid)?.keyId !== claims.client_id)
        return null;
      const secret = signingSecretOf(facts.secrets, token.kid);
      const version = facts.record.versions.find((one) => one.version === secret?.version);
      if (version === undefined || !isSignedByOneOf(facts.secrets, token, unverified)) return null;
      token.custom = jwt.customClaims;
      const allowed = this.#standing.audiencesOf(facts.record);
      // The holder wrote the audience, so all of it is compared with what the policy allows.
      if (!claims.aud.every((one) => allowed.includes(one))) return { version, denial: { code: 'wrong_audience' } };
      return { version, denial: this.#deny(trial, facts.record, version, now) };
    };
  }

  /** What the token itself says against its use, and what its key now says against the token. */
  #deny(
    { token, demand, audience, audienceOnly }: Trial,
    record: DecisiveRecord,
    version: KeyVersion,
    now: Instant,
  ): Denial | null {
    const { claims, scope, algorithm } = token;
    const { issuer } = this.#settings;
    // What was taken off the policy since is no audience of its tokens any more. One that was added harms nothing.
    const allowed = this.#standing.audiencesOf(record);
    const code = checkClaims(claims, {
      issuer,
      audience: audience === allowed ? audience : audience.filter((one) => allowed.includes(one)),
      audienceOnly,
      now,
      leewaySeconds: LEEWAY_SECONDS_DEFAULT,
      lifetimeMaxSeconds: LIFETIME_MAX_SECONDS[claims.kind],
    });
    if (code !== null) return { code };
    const { kind, jti: tokenId, iat } = claims;
    const ended = this.#standing.endOf({ tokenId, kind, algorithm, issuedAt: iat * SECOND_MS }, record, version);
    return ended ?? decidePermissions(scope, demand.permissions);
  }
}

const LIFETIME_MAX_SECONDS: Readonly<Record<Claims['kind'], number>> = {
  access: ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  key_signed: KEY_SIGNED_LIFETIME_MAX_SECONDS,
};

function signingSecretOf(secrets: readonly VersionSecret[], kid: string): VersionSecret | undefined {
  return secrets.find(({ signing }) => signing?.kid === kid);
}

/** Whether a key with these secrets signed it. Null: its signature has been checked before, by the key that `kid` names. */
function isSignedByOneOf(secrets: readonly VersionSecret[], { kid }: ReadToken, unverified: ParsedJws | null): boolean {
  const signing = signingSecretOf(secrets, kid)?.signing ?? null;
  if (signing === null || unverified === null) return signing !== null;
  return verifyJws(unverified, { algorithm: 'HS256', key: createSecretKey(signing.secret) });
}

/** A permission in the scope: a part of the text that the claims hold, and its place in a list. */
const SCOPE_PART_BYTES = 48;
const DIGEST_BYTES = 88;

/** With what is left of its scope, which is worked out later, and the digest that it is found by. */
function bytesOf({ claims, kid, scope, custom }: ReadToken): number {
  return memoryOf(claims) + memoryOf(kid) + memoryOf(custom) + 2 * scope.length * SCOPE_PART_BYTES + DIGEST_BYTES;
}

function readToken(parsed: ParsedJws | null): ReadToken | null {
  const kind = parsed === null ? null : tokenKindOf(parsed.header);
  const claims = parsed === null || kind === null ? null : parseClaims(kind, parsed.payload);
  if (parsed === null || claims === null) return null;
  const scope = permissionsOfScope(claims.scope) ?? [];
  const custom = claims.kind === 'access' ? claims.custom : {};
  const { kid, alg: algorithm } = parsed.header;
  return { claims, kid, algorithm, scope, custom, effective: null };
}

function verifiedToken(token: ReadToken, demanded: readonly string[], held: readonly string[]): VerifiedToken {
  const { claims, scope, kid, algorithm } = token;
  if (token.effective?.held !== held) token.effective = { held, permissions: intersect(held, scope) };
  return {
    tokenId: claims.jti,
    kind: claims.kind,
    algorithm,
    kid,
    subject: claims.sub,
    audience: claims.aud,
    acceptedFor: claims.aud.filter((one) => demanded.includes(one)),
    permissions: token.effective.permissions,
    issuedAt: claims.iat * SECOND_MS,
    expiresAt: claims.exp * SECOND_MS,
    customClaims: token.custom,
  };
}
