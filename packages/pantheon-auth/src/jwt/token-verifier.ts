/**
 * Turns a presented token into a verdict, by the same six steps as the key itself: taken apart, its signature checked (once
 * per token), its claims, and its key. So a token dies with its key, its version or its signing key (I7).
 */
import { createSecretKey, hash } from 'node:crypto';
import { keyIdOfKid } from '../api-keys/key-derivation.ts';
import type { KeyValidator, Verification } from '../api-keys/key-validator.ts';
import { evaluate, type Holder } from '../api-keys/verification-attempt.ts';
import { toKeyUse, type VerifyRequest } from '../api-keys/verify-request.ts';
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
import { type Denial, decidePermissions } from '../domain/verification.ts';
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, type Instant, momentOf, SECOND_MS } from '../foundation/clock.ts';
import { isPromise } from '../foundation/is-promise.ts';
import { memoryOf } from '../foundation/memory-size.ts';
import { TenantCache } from '../foundation/tenant-cache.ts';
import type { VersionSecret } from '../verification/stored-key.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import { JWS_LENGTH_MAX, type ParsedJws, parseJws, verifyJws } from './jws.ts';
import type { SigningKeyring } from './signing-keyring.ts';
import type { TokenValidity } from './token-validity.ts';

export interface VerifyTokenRequest extends Omit<VerifyRequest, 'key'> {
  readonly token: string;
  /** One of these must be among the token's. Default: the service's own. */
  readonly audience?: readonly string[];
  /** Whether a token that is meant for any other audience as well is refused. Default: it is not. */
  readonly audienceOnly?: boolean;
}

/** What a verified token says, beside what its key is. */
export interface VerifiedToken<App extends AppTypes = AppTypes> extends PresentedToken {
  readonly subject: string;
  readonly audience: readonly string[];
  /** What both the token and its key allow. */
  readonly permissions: readonly PermissionPattern<App>[];
  readonly expiresAt: Instant;
  readonly customClaims: CustomClaims<App>;
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
  /**
   * What is left of the scope in the permissions of the key that it was last seen with. Neither those permissions nor a
   * string of them is kept in memory by it: they are not accounted here, and a key can be changed often.
   */
  effective: { readonly held: WeakRef<readonly string[]>; readonly permissions: readonly string[] } | null;
}

/** What a token is checked against. */
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
  /** By the SHA-256 of the whole token: no part of it, however long, stands for another (CVE-2026-35030). */
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

  /** What is accounted for the tokens that were seen. */
  get seenTokensBytes(): number {
    return this.#seen.bytes;
  }

  /**
   * Whether this token may act now. A "no" is a value. Nothing is awaited where nothing has to be waited for.
   *
   * @throws PantheonError `invalid_request`, 503 codes.
   */
  async verify(request: VerifyTokenRequest): Promise<TokenVerification> {
    const use = toKeyUse(request, momentOf(this.#clock));
    const { audience = this.#settings.audience, audienceOnly = false } = request;
    const check: TokenCheck = { permissions: use.access.permissions, audience, audienceOnly };

    // 1. Parse: form, kind and claims, and the signature where the service made it. A token that was seen before is known by
    // its digest.
    if (typeof request.token !== 'string' || request.token.length > JWS_LENGTH_MAX)
      return this.#validator.rejectUnauthenticated('malformed', use.sender);
    const digest = hash('sha256', request.token, 'latin1');
    const seen = this.#seen.get(digest);
    const unverified = seen === undefined ? parseJws(request.token) : null;
    const token = seen ?? readToken(unverified);
    if (token === null) return this.#validator.rejectUnauthenticated('malformed', use.sender);
    const isKeySigned = token.claims.kind === 'key_signed';
    // A signing key that is not known here may be the youngest one: only the log as it is now may say no (I5).
    const isSignerUnknown = !isKeySigned && this.#keyring.verifier(token.kid) === null;
    if (isSignerUnknown) await this.#feed.confirm(use.arrived.monotonicMs);
    if (!isKeySigned && !this.#isSignedByService(token, unverified))
      return this.#validator.rejectUnauthenticated('unknown', use.sender);

    for (const attempt = this.#validator.attempt(token.claims.client_id, use); ; ) {
      // 2. Find its key: from memory, else one read of the store.
      const finding = attempt.find();
      const found = isPromise(finding) ? await finding : finding;

      // 3. Match: the version that the service named, or whose secret the holder signed with.
      const secretVerified = !isKeySigned || isSignedByKey(found.secrets, token, unverified);
      attempt.assertReadable(secretVerified);
      const version = secretVerified ? this.#versionOf(token, found.facts) : null;

      // 4. Decide: what the token says against itself, and then the key as if it had been presented itself.
      const denial = this.#tokenDenial(token, check, found.facts, version, attempt.now);
      const evaluation = evaluate(found.facts, version, use.access, attempt.now, denial);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial !== null) return this.#validator.deny(evaluation, use);

      // 5. Limit: those of the key.
      const limiting = this.#validator.limit(attempt, evaluation.holder.facts, use.cost);
      const limits = isPromise(limiting) ? await limiting : limiting;
      if (!attempt.settlesLimits(evaluation.holder.facts, limits)) continue;

      // 6. Record: as a use of the key.
      const verification = this.#validator.record(evaluation.holder, limits, use);
      if (!verification.valid) return verification;
      if (seen === undefined) this.#seen.set(digest, verification.key.tenantId, token);
      return { ...verification, token: verifiedToken(token, check.audience, evaluation.holder) };
    }
  }

  #isSignedByService({ kid }: ReadToken, unverified: ParsedJws | null): boolean {
    const key = this.#keyring.verifier(kid);
    return key !== null && (unverified === null || verifyJws(unverified, key));
  }

  /** The version of the key that the token, whose signature is good, stands for; null: none that the key has. */
  #versionOf({ claims, kid }: ReadToken, facts: CachedKey | null): KeyVersion | null {
    if (facts === null) return null;
    const { record, secrets } = facts;
    if (claims.kind === 'access') {
      // Asked again each time: the signing key may have been retired since.
      if (this.#keyring.verifier(kid) === null || record.tenantId !== claims.tenant_id) return null;
      return record.versions.find((one) => one.version === claims.key_version) ?? null;
    }
    if (record.jwt?.algorithm !== 'HS256' || keyIdOfKid(kid)?.keyId !== claims.client_id) return null;
    const secret = signingSecretOf(secrets, kid);
    return record.versions.find((one) => one.version === secret?.version) ?? null;
  }

  /** What the token itself says against its use, and what its key now says against the token. Null: nothing. */
  #tokenDenial(
    { claims, scope, algorithm }: ReadToken,
    { permissions, audience, audienceOnly }: TokenCheck,
    facts: CachedKey | null,
    version: KeyVersion | null,
    now: Instant,
  ): Denial | null {
    if (facts === null || version === null) return null;
    const { record } = facts;
    const { issuer } = this.#settings;
    const allowed = this.#validity.audiencesOf(record);
    // The holder wrote the audience of a token that the key signed, so all of it is compared with what the policy allows.
    if (claims.kind === 'key_signed' && !claims.aud.every((one) => allowed.includes(one)))
      return { code: 'wrong_audience' };
    const code = checkClaims(claims, {
      issuer,
      // What was taken off the policy since is no audience of its tokens any more. One that was added harms nothing.
      audience: audience === allowed ? audience : audience.filter((one) => allowed.includes(one)),
      audienceOnly,
      now,
      leewaySeconds: LEEWAY_SECONDS_DEFAULT,
      lifetimeMaxSeconds: LIFETIME_MAX_SECONDS[claims.kind],
    });
    if (code !== null) return { code };
    const { kind, jti: tokenId, iat } = claims;
    const ended = this.#validity.endOf({ tokenId, kind, algorithm, issuedAt: iat * SECOND_MS }, record, version);
    return ended ?? decidePermissions(scope, permissions);
  }
}

const LIFETIME_MAX_SECONDS: Readonly<Record<Claims['kind'], number>> = {
  access: ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  key_signed: KEY_SIGNED_LIFETIME_MAX_SECONDS,
};

function signingSecretOf(secrets: readonly VersionSecret[], kid: string): VersionSecret | undefined {
  return secrets.find(({ signing }) => signing?.kid === kid);
}

/** Whether a key with these secrets signed it. Not null: its signature has not been checked before. */
function isSignedByKey(secrets: readonly VersionSecret[], { kid }: ReadToken, unverified: ParsedJws | null): boolean {
  const signing = signingSecretOf(secrets, kid)?.signing ?? null;
  if (signing === null || unverified === null) return signing !== null;
  return verifyJws(unverified, { algorithm: 'HS256', key: createSecretKey(signing.secret) });
}

/** A permission in the scope: a part of the text that the claims hold, and its place in a list. */
const SCOPE_PART_BYTES = 48;
const DIGEST_BYTES = 88;

/** With what is left of its scope, which is worked out later, and the digest that it is found by. */
function bytesOf({ claims, kid, scope }: ReadToken): number {
  return memoryOf(claims) + memoryOf(kid) + 2 * scope.length * SCOPE_PART_BYTES + DIGEST_BYTES;
}

function readToken(parsed: ParsedJws | null): ReadToken | null {
  const kind = parsed === null ? null : tokenKindOf(parsed.header);
  const claims = parsed === null || kind === null ? null : parseClaims(kind, parsed.payload);
  if (parsed === null || claims === null) return null;
  const scope = [...new Set(permissionsOfScope(claims.scope) ?? [])];
  const { kid, alg: algorithm } = parsed.header;
  return { claims, kid, algorithm, scope, effective: null };
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
    // Those of a token that the key signed are taken from the record, not from its holder.
    customClaims: claims.kind === 'access' ? claims.custom : (jwt?.customClaims ?? {}),
  };
}

/** What both the token and its key allow. Worked out again each time where the key narrows what the token names. */
function effectivePermissions(token: ReadToken, held: readonly string[]): readonly string[] {
  if (token.effective?.held.deref() === held) return token.effective.permissions;
  const both = new Set(intersect(held, token.scope));
  const ofScope = token.scope.filter((one) => both.has(one));
  if (ofScope.length < both.size) return [...both];
  token.effective = { held: new WeakRef(held), permissions: ofScope };
  return ofScope;
}
