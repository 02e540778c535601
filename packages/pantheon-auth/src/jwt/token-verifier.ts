/**
 * Verifies a presented token in the same six steps as a key. Its signature is checked once per token, its claims and
 * its key each time, so a token is denied once its key, version or signing key has ended (I7).
 */
import { createSecretKey, hash } from 'node:crypto';
import { keyIdOfKid } from '../api-keys/key-derivation.ts';
import type { KeyValidator, Verification } from '../api-keys/key-validator.ts';
import { evaluate, type Holder } from '../api-keys/verification-attempt.ts';
import { TOKEN_REQUEST, toKeyUse, type VerifyRequest } from '../api-keys/verify-request.ts';
import { assertFlag } from '../commands/input.ts';
import type { AppTypes, CustomClaims, PermissionPattern } from '../domain/app-types.ts';
import {
  ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  type Claims,
  checkClaims,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
  LEEWAY_SECONDS_DEFAULT,
  parseClaims,
  permissionsOfScope,
  tokenKindOf,
} from '../domain/claims.ts';
import type { PresentedToken } from '../domain/credential.ts';
import type { KeyVersion } from '../domain/key.ts';
import { intersect } from '../domain/permissions.ts';
import { endOfStatement } from '../domain/token-life.ts';
import { type DecisiveRecord, type Denial, decidePermissions } from '../domain/verification.ts';
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, type Instant, momentOf, SECOND_MS } from '../foundation/clock.ts';
import { isPromise } from '../foundation/is-promise.ts';
import { memoryOf } from '../foundation/memory-size.ts';
import { TenantCache } from '../foundation/tenant-cache.ts';
import type { VersionSecret } from '../verification/stored-key.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import { JWS_LENGTH_MAX, type ParsedJws, parseJws, verifyJws } from './jws.ts';
import type { SigningKeyring } from './signing-keyring.ts';
import { assertAudience } from './token-issuer.ts';
import type { TokenValidity } from './token-validity.ts';

export interface VerifyTokenRequest extends Omit<VerifyRequest, 'key'> {
  readonly token: string;
  /** The token must have one of these audiences. Default: those of the service. */
  readonly audience?: readonly string[];
  /** Whether to deny a token that also has other audiences. Default: false. */
  readonly audienceOnly?: boolean;
}

/** The claims of a verified token. */
export interface VerifiedToken<App extends AppTypes = AppTypes> extends PresentedToken {
  readonly audience: readonly string[];
  /** The permissions that both the token and its key have. */
  readonly permissions: readonly PermissionPattern<App>[];
  readonly customClaims: CustomClaims<App>;
}

export type TokenVerification =
  | (Extract<Verification, { valid: true }> & { readonly token: VerifiedToken })
  | Extract<Verification, { valid: false }>;

/** Tokens whose signature was verified. Seeing one again costs a hash instead of a signature check. */
export const SEEN_TOKENS_MAX = 20_000;
/** A usual parsed token takes 3 kB, the longest 30 kB. */
export const SEEN_TOKENS_BYTES_MAX: number = 40 * 1_024 * 1_024;

/** A parsed token. */
interface ReadToken {
  readonly claims: Claims;
  readonly kid: string;
  readonly algorithm: PresentedToken['algorithm'];
  /** The permissions in its scope. */
  readonly scope: readonly string[];
  /**
   * The part of the scope that the key had when the token was last verified. It keeps neither the permissions of the
   * key nor their strings in memory, because they are not counted in the size of this entry, and a key can change
   * often.
   */
  effective: { readonly held: WeakRef<readonly string[]>; readonly permissions: readonly string[] } | null;
  /** The record of the key that last agreed with the token, so that large custom claims are compared once. */
  agreedWith: WeakRef<DecisiveRecord> | null;
}

/** The parameters of the checks of a token. */
interface TokenCheck {
  readonly permissions: readonly string[];
  readonly audience: readonly string[];
  readonly audienceOnly: boolean;
}

export interface TokenVerifierDeps {
  readonly validator: KeyValidator;
  readonly feed: EventFeed;
  readonly keyring: SigningKeyring;
  readonly validity: TokenValidity;
  readonly clock: Clock;
  readonly settings: { readonly issuer: string; readonly audience: readonly string[] };
  readonly seenTokensBytesMax?: number;
}

export class TokenVerifier {
  readonly #validator: KeyValidator;
  readonly #feed: EventFeed;
  readonly #keyring: SigningKeyring;
  readonly #validity: TokenValidity;
  readonly #clock: Clock;
  readonly #settings: TokenVerifierDeps['settings'];
  /** By the SHA-256 of the whole token, not of a part of it (CVE-2026-35030). */
  readonly #seen: TenantCache<ReadToken>;

  constructor(deps: TokenVerifierDeps) {
    this.#validator = deps.validator;
    this.#feed = deps.feed;
    this.#keyring = deps.keyring;
    this.#validity = deps.validity;
    this.#clock = deps.clock;
    this.#settings = deps.settings;
    const bytesMax = deps.seenTokensBytesMax ?? SEEN_TOKENS_BYTES_MAX;
    this.#seen = new TenantCache({ bytesMax, entriesMax: SEEN_TOKENS_MAX, sizeOf: bytesOf });
  }

  /** The estimated bytes of the cached tokens. */
  get seenTokensBytes(): number {
    return this.#seen.bytes;
  }

  /**
   * Whether this token may act now. A denial is returned as a value. Where nothing has to be read, nothing is awaited.
   *
   * @throws PantheonError `invalid_request`, 503 codes.
   */
  async verify(request: VerifyTokenRequest): Promise<TokenVerification> {
    const use = toKeyUse(request, TOKEN_REQUEST, momentOf(this.#clock));
    const { audience = this.#settings.audience, audienceOnly = false } = request;
    assertAudience(audience);
    assertFlag('audienceOnly', audienceOnly);
    const check: TokenCheck = { permissions: use.access.permissions, audience, audienceOnly };

    // 1. Parse: form, kind and claims, and the signature if the service made it. A token seen before is found by its
    // digest.
    if (typeof request.token !== 'string' || request.token.length > JWS_LENGTH_MAX)
      return this.#validator.rejectUnauthenticated('malformed', use.sender);
    const digest = hash('sha256', request.token, 'latin1');
    const seen = this.#seen.get(digest);
    const unverified = seen === undefined ? parseJws(request.token) : null;
    const token = seen ?? readToken(unverified);
    if (token === null) return this.#validator.rejectUnauthenticated('malformed', use.sender);
    const isKeySigned = token.claims.kind === 'key_signed';
    if (!isKeySigned && this.#isForged(token, unverified))
      return this.#validator.rejectUnauthenticated('unknown', use.sender);
    // An unknown signing key may have been created just now, so the token is denied only after confirmation with the
    // log (I5).
    const isSignerUnknown = !isKeySigned && this.#keyring.verifier(token.kid) === null;
    if (isSignerUnknown) await this.#feed.confirm(use.arrived.monotonicMs);
    if (!isKeySigned && !this.#isSignedByService(token, unverified))
      return this.#validator.rejectUnauthenticated('unknown', use.sender);

    for (const attempt = this.#validator.attempt(token.claims.client_id, use); ; ) {
      // 2. Find its key: from memory, else one read of the database.
      const finding = attempt.find();
      const found = isPromise(finding) ? await finding : finding;

      // 3. Match: the version named by the service, or the one whose secret signed the token.
      const secretVerified = !isKeySigned || isSignedByKey(found.secrets, token, unverified);
      attempt.assertReadable(secretVerified);
      const version = secretVerified ? this.#versionOf(token, found.facts) : null;

      // 4. Decide: the claims of the token, then the key as if it had been presented itself.
      const denial = this.#tokenDenial(token, check, found.facts, version, attempt.now);
      const evaluation = evaluate(found.facts, version, use.access, attempt.now, denial);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial !== null) return this.#validator.deny(evaluation, use);

      // 5. Limit: the limits of the key.
      const limiting = this.#validator.limit(attempt, evaluation.holder.facts, use.cost);
      const limits = isPromise(limiting) ? await limiting : limiting;
      if (!attempt.settlesLimits(evaluation.holder.facts, limits)) continue;

      // 6. Record: a use of the key.
      const verification = this.#validator.record(evaluation.holder, limits, use);
      if (!verification.valid) return verification;
      if (seen === undefined) this.#seen.set(digest, verification.key.tenantId, token);
      return { ...verification, token: verifiedToken(token, check.audience, evaluation.holder) };
    }
  }

  /** Whether the token names a damaged signing key that did not sign it. */
  #isForged({ kid }: ReadToken, unverified: ParsedJws | null): boolean {
    const key = this.#keyring.publicKeyOfDamaged(kid);
    return key !== null && unverified !== null && !verifyJws(unverified, key);
  }

  #isSignedByService({ kid }: ReadToken, unverified: ParsedJws | null): boolean {
    const key = this.#keyring.verifier(kid);
    return key !== null && (unverified === null || verifyJws(unverified, key));
  }

  /** The version of the key that a correctly signed token was made from; null: the key has no such version. */
  #versionOf({ claims, kid }: ReadToken, facts: CachedKey | null): KeyVersion | null {
    if (facts === null) return null;
    const { record, secrets } = facts;
    if (claims.kind === 'access') {
      // Checked each time, because the signing key may have been retired.
      if (this.#keyring.verifier(kid) === null || record.tenantId !== claims.tenant_id) return null;
      return record.versions.find((one) => one.version === claims.key_version) ?? null;
    }
    if (record.jwt?.algorithm !== 'HS256' || keyIdOfKid(kid)?.keyId !== claims.client_id) return null;
    const secret = signingSecretOf(secrets, kid);
    return record.versions.find((one) => one.version === secret?.version) ?? null;
  }

  /** The denial by the claims of the token, or by the current policy of its key. Null: none. */
  #tokenDenial(
    token: ReadToken,
    { permissions, audience, audienceOnly }: TokenCheck,
    facts: CachedKey | null,
    version: KeyVersion | null,
    now: Instant,
  ): Denial | null {
    if (facts === null || version === null) return null;
    const { claims, scope, algorithm } = token;
    const { record } = facts;
    const { issuer } = this.#settings;
    const allowed = this.#validity.audiencesOf(record);
    // The holder chooses the audiences of a key-signed token, so the policy must allow all of them.
    if (claims.kind === 'key_signed' && !claims.aud.every((one) => allowed.includes(one)))
      return { code: 'wrong_audience' };
    const code = checkClaims(claims, {
      issuer,
      // Audiences removed from the policy since no longer count. Added ones do no harm.
      audience: audience === allowed ? audience : audience.filter((one) => allowed.includes(one)),
      audienceOnly,
      now,
      leewaySeconds: LEEWAY_SECONDS_DEFAULT,
      lifetimeMaxSeconds: LIFETIME_MAX_SECONDS[claims.kind],
    });
    if (code !== null) return { code };
    const { kind, jti: tokenId, iat } = claims;
    const ended = this.#validity.endOf({ tokenId, kind, algorithm, issuedAt: iat * SECOND_MS }, record, version);
    return ended ?? statementDenial(token, record) ?? decidePermissions(scope, permissions);
  }
}

const LIFETIME_MAX_SECONDS: Readonly<Record<Claims['kind'], number>> = {
  access: ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  key_signed: KEY_SIGNED_LIFETIME_MAX_SECONDS,
};

/** The denial of a token whose user, custom claims or lifetime are not those of its key. */
function statementDenial(token: ReadToken, record: DecisiveRecord): Denial | null {
  const { claims } = token;
  if (token.agreedWith?.deref() === record) return null;
  const { kind, sub: subject } = claims;
  const customClaims = claims.kind === 'access' ? claims.custom : {};
  const times = { issuedAt: claims.iat * SECOND_MS, expiresAt: claims.exp * SECOND_MS };
  const denial = endOfStatement({ kind, subject, customClaims, ...times }, record);
  if (denial === null) token.agreedWith = new WeakRef(record);
  return denial;
}

function signingSecretOf(secrets: readonly VersionSecret[], kid: string): VersionSecret | undefined {
  return secrets.find(({ signing }) => signing?.kid === kid);
}

/**
 * Whether it was signed with one of these secrets. `unverified`: the parsed token whose signature must be checked;
 * null: it was checked before.
 */
function isSignedByKey(secrets: readonly VersionSecret[], { kid }: ReadToken, unverified: ParsedJws | null): boolean {
  const signing = signingSecretOf(secrets, kid)?.signing ?? null;
  if (signing === null || unverified === null) return signing !== null;
  return verifyJws(unverified, { algorithm: 'HS256', key: createSecretKey(signing.secret) });
}

/** The memory of a permission in the scope: a slice of the text in the claims, and its list entry. */
const SCOPE_PART_BYTES = 48;
const DIGEST_BYTES = 88;
/** A weak reference to a record. */
const REFERENCE_BYTES = 64;

/** Includes the later computed permissions, and the digest that is the cache key. */
function bytesOf({ claims, kid, scope }: ReadToken): number {
  return memoryOf(claims) + memoryOf(kid) + 2 * scope.length * SCOPE_PART_BYTES + DIGEST_BYTES + REFERENCE_BYTES;
}

function readToken(parsed: ParsedJws | null): ReadToken | null {
  const kind = parsed === null ? null : tokenKindOf(parsed.header);
  const claims = parsed === null || kind === null ? null : parseClaims(kind, parsed.payload);
  if (parsed === null || claims === null) return null;
  const scope = [...new Set(permissionsOfScope(claims.scope) ?? [])];
  const { kid, alg: algorithm } = parsed.header;
  return { claims, kid, algorithm, scope, effective: null, agreedWith: null };
}

function verifiedToken(token: ReadToken, audience: readonly string[], { facts }: Holder): VerifiedToken {
  const { claims, kid, algorithm } = token;
  const { permissions: held, jwt } = facts.record;
  return {
    tokenId: claims.jti,
    kind: claims.kind,
    algorithm,
    kid,
    subject: claims.sub,
    audience: claims.aud,
    acceptedFor: claims.aud.filter((one) => audience.includes(one)),
    permissions: effectivePermissions(token, held),
    issuedAt: claims.iat * SECOND_MS,
    expiresAt: claims.exp * SECOND_MS,
    // Custom claims of a key-signed token come from the record, not from its holder.
    customClaims: claims.kind === 'access' ? claims.custom : (jwt?.customClaims ?? {}),
  };
}

/** The permissions that both the token and its key have. */
function effectivePermissions(token: ReadToken, held: readonly string[]): readonly string[] {
  if (token.effective?.held.deref() === held) return token.effective.permissions;
  const both = new Set(intersect(held, token.scope));
  const ofScope = token.scope.filter((one) => both.has(one));
  if (ofScope.length < both.size) return [...both];
  token.effective = { held: new WeakRef(held), permissions: ofScope };
  return ofScope;
}
