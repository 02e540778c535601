/**
 * The calls about tokens: exchange a key for a token, issue, verify and revoke tokens, and publish the public keys. The
 * parts are in `jwt/`.
 */
import { timingSafeEqual } from 'node:crypto';
import type { APIKey } from './api-keys/api-key.ts';
import type { KeyChanges } from './api-keys/key-changes.ts';
import { type APIKeyMetadata, hashKey, type KeyTokenSigner, parseKey } from './api-keys/key-generator.ts';
import { keyAsRead } from './api-keys/key-storage.ts';
import type { KeyValidator, Verification } from './api-keys/key-validator.ts';
import type { VerifyRequest } from './api-keys/verify-request.ts';
import { authorize, type CallerGuard } from './commands/caller.ts';
import { runCommand } from './commands/run-command.ts';
import { type ChangeOptions, callerIn } from './domain/caller.ts';
import { type AsymmetricAlgorithm, buildKeySignedClaims, KEY_SIGNED_LIFETIME_MAX_SECONDS } from './domain/claims.ts';
import { assertMayHandOut, type ConfirmedCaller } from './domain/delegation.ts';
import { isActive, revokeTokens } from './domain/key.ts';
import { assertNotSuperseded } from './domain/key-policy.ts';
import { isReserved } from './domain/permissions.ts';
import { readerOf } from './domain/reader.ts';
import { decide } from './domain/verification.ts';
import type { EventFeed } from './events/event-feed.ts';
import { assertCertainTime, type Clock, type Moment, momentOf } from './foundation/clock.ts';
import { parseDuration } from './foundation/duration.ts';
import type { JsonObject } from './foundation/encoding.ts';
import { invariant, PantheonError } from './foundation/errors.ts';
import type { TurnKey } from './foundation/fair-queue.ts';
import { newId } from './foundation/ids.ts';
import { signerOf } from './jwt/holder-token.ts';
import { assertRevocable, type RevokedToken, type TokenRevocations } from './jwt/revocation.ts';
import type {
  QuarantinedSigningKey,
  RetireSigningKeyOptions,
  SigningKeyInfo,
  SigningKeyManager,
} from './jwt/signing-key-manager.ts';
import type { SigningKeyring } from './jwt/signing-keyring.ts';
import {
  assertTokenOptions,
  EXCHANGE_REQUEST,
  type IssuedToken,
  type KeySigner,
  parseCustomClaims,
  signWithKey,
  type TokenIssuer,
  type TokenOptions,
} from './jwt/token-issuer.ts';
import type { TokenIssue, TokenIssues } from './jwt/token-issues.ts';
import type { TokenVerification, TokenVerifier, VerifyTokenRequest } from './jwt/token-verifier.ts';
import { tenantAsRead } from './tenants/tenant-storage.ts';
import type { StoredKey } from './verification/stored-key.ts';
import type { VerificationCache } from './verification/verification-cache.ts';

/** A key, and the options of the requested token. */
export interface ExchangeRequest extends TokenOptions, Omit<VerifyRequest, 'permissions'> {}

/** The key that tokens are of. */
export interface TokenTarget {
  readonly tenantId: string;
  readonly keyId: string;
}

export type Exchange =
  | {
      readonly issued: true;
      readonly token: IssuedToken;
      readonly verification: Extract<Verification, { valid: true }>;
    }
  | { readonly issued: false; readonly verification: Extract<Verification, { valid: false }> };

export interface JwtHandlerDeps {
  readonly validator: KeyValidator;
  readonly issuer: TokenIssuer;
  readonly verifier: TokenVerifier;
  readonly keyring: SigningKeyring;
  readonly signingKeys: SigningKeyManager;
  readonly revocations: TokenRevocations;
  readonly feed: EventFeed;
  readonly guard: CallerGuard;
  readonly changes: KeyChanges;
  readonly issues: TokenIssues;
  readonly cache: VerificationCache;
  readonly clock: Clock;
  readonly keyPrefix: string;
}

export class JwtHandler implements KeyTokenSigner {
  readonly #deps: JwtHandlerDeps;

  constructor(deps: JwtHandlerDeps) {
    this.#deps = deps;
  }

  /**
   * Exchanges a key for a token. The key is verified and the use counted as in `verify`; a denial is returned as a
   * value.
   *
   * @throws PantheonError `invalid_request` when the request exceeds what the key allows, `signing_secret_unavailable`,
   * `signing_key_unavailable`, other 503 codes.
   */
  async exchange(request: ExchangeRequest): Promise<Exchange> {
    assertTokenOptions(request, EXCHANGE_REQUEST);
    const { audience, permissions, ttlSeconds, ...verify } = request;
    const verification = await this.#deps.validator.verify(verify);
    if (!verification.valid) return { issued: false, verification };
    const { keyId, version } = verification.key;
    const { tenantId } = verification.key;
    const holder = { group: tenantId, member: keyId };
    const stored = await this.#current({ tenantId, keyId }, holder, momentOf(this.#deps.clock));
    this.#assertStillMay(stored, version, request.key);
    const { record, secrets } = stored;
    const signer = secrets.find((one) => one.version === version)?.signing ?? null;
    const tokenOptions = {
      ...(audience !== undefined && { audience }),
      ...(permissions !== undefined && { permissions }),
      ...(ttlSeconds !== undefined && { ttlSeconds }),
    };
    return { issued: true, token: this.#deps.issuer.issue(record, version, signer, tokenOptions), verification };
  }

  /**
   * Issues a token for a key without its key string. The caller must be allowed to grant all permissions of the key. If
   * the caller is a key, the audit trail records it as `key.token_issued`.
   *
   * @throws PantheonError `not_found`, `not_grantable`, `not_allowed` when the key may not act, `conflict` when concurrent
   * changes prevent it, as for `exchange`.
   */
  async issue(target: TokenTarget, tokenOptions: TokenOptions = {}, options: ChangeOptions = {}): Promise<IssuedToken> {
    const by = callerIn(options);
    assertTarget(target);
    assertTokenOptions(tokenOptions);
    const intent = { by, action: 'tokens.issue', tenantId: target.tenantId } as const;
    authorize(intent, by);
    const { change } = await runCommand(
      {
        ...intent,
        load: async () => {
          const asOf = momentOf(this.#deps.clock);
          // No verification has confirmed the caches before this, so the signing key may have been retired: confirm them.
          await this.#deps.feed.confirm(asOf.monotonicMs);
          return { asOf, stored: await this.#current(target, readerOf(by, target.tenantId), asOf) };
        },
        decide: ({ asOf, stored }, caller) => ({ asOf, ...this.#decideIssue(stored, caller, tokenOptions) }),
        commit: (issue) => this.#deps.issues.commit(issue, by),
      },
      this.#deps.guard,
    );
    invariant(change !== null, 'a new token is always issued');
    this.#assertFresh(change.asOf);
    return change.token;
  }

  #decideIssue(stored: StoredKey, caller: ConfirmedCaller, tokenOptions: TokenOptions): TokenIssue {
    const { record, secrets, tenant } = stored;
    const { authority } = caller;
    if (authority.kind === 'key' && authority.via === 'token')
      throw new PantheonError('not_allowed', { detail: 'A token cannot be used to issue tokens.' });
    assertNotSuperseded(caller, record);
    // A token acts like a short-lived key, so it must be within the bounds of the caller, and expires with it.
    assertMayHandOut(caller, record);
    const isAlive = isActive(record, this.#deps.clock.now()) && tenant.state === 'active';
    if (!isAlive) throw new PantheonError('not_allowed', { field: 'keyId', detail: 'The key is not active.' });
    const signer = secrets.find((one) => one.version === record.version)?.signing ?? null;
    const token = this.#deps.issuer.issue(record, record.version, signer, tokenOptions);
    return { token, record, preconditions: [keyAsRead(record), tenantAsRead(tenant)] };
  }

  /** Verifies a token together with its key. */
  verify(request: VerifyTokenRequest): Promise<TokenVerification> {
    return this.#deps.verifier.verify(request);
  }

  /**
   * Revokes one token by its `jti`. Every verifier that follows the log denies it from now on. Idempotent.
   *
   * @throws PantheonError `invalid_request`; `overloaded` when there are too many revoked tokens, of this tenant or in
   * total: use `revokeAllOf` then; `conflict` after too many conflicts.
   */
  async revoke(token: RevokedToken, options: ChangeOptions = {}): Promise<void> {
    const by = callerIn(options);
    assertTarget(token);
    const { revocations, guard, changes } = this.#deps;
    const intent = { by, action: 'tokens.revoke', tenantId: token.tenantId } as const;
    authorize(intent, by);
    assertRevocable(token);
    await runCommand(
      {
        ...intent,
        load: async () => {
          const reader = readerOf(by, token.tenantId);
          const { record } = await changes.load(token.tenantId, token.keyId, reader, 'protective');
          return { record, isRevoked: await revocations.find(token) };
        },
        decide: ({ record, isRevoked }, caller) => {
          assertNotSuperseded(caller, record);
          return isRevoked ? null : revocations.decide(token, by.auditContext);
        },
        commit: (revocation) => revocations.commit(revocation),
      },
      guard,
    );
  }

  /** Revokes all tokens issued for a key so far. The key itself stays valid. */
  async revokeAllOf(target: TokenTarget, options: ChangeOptions = {}): Promise<void> {
    const by = callerIn(options);
    assertTarget(target);
    const command = {
      by,
      action: 'tokens.revoke',
      tenantId: target.tenantId,
      keyId: target.keyId,
      decide: ({ record, secrets }: StoredKey, caller: ConfirmedCaller) => {
        assertNotSuperseded(caller, record);
        return { change: revokeTokens(record, by.auditContext, this.#deps.clock.now()), secrets };
      },
    } as const;
    await this.#deps.changes.change(command, 'protective');
  }

  /**
   * The public keys (RFC 7517) that this node has in memory. A node that verifies nothing can be updated with
   * `auth.ping()`.
   */
  jwks(): { readonly keys: readonly JsonObject[] } {
    return this.#deps.keyring.jwks();
  }

  /**
   * The signing keys that are not retired, newest first, then those whose row is damaged. Requires
   * `pantheon:signing-keys:read` on a key of the system tenant.
   */
  signingKeys(options: ChangeOptions = {}): readonly (SigningKeyInfo | QuarantinedSigningKey)[] {
    return this.#deps.signingKeys.list(options);
  }

  /**
   * Rotates the signing key of this algorithm: the standby key starts to sign, and a new standby key is published. A standby
   * key that has been published for less than six minutes starts to sign when it has (`signsFrom`), so that verifiers with a
   * cached JWKS know it. Tokens of the previous signing key stay valid. While a rotation is pending, calling this again
   * changes nothing. Requires `pantheon:signing-keys:add` on a key of the system tenant.
   *
   * @throws PantheonError `invalid_request`; `not_allowed` when there are 32 of this algorithm.
   */
  rotateSigningKey(algorithm: AsymmetricAlgorithm, options: ChangeOptions = {}): Promise<SigningKeyInfo> {
    return this.#deps.signingKeys.rotate(algorithm, options);
  }

  /**
   * Retires a signing key: every token that it signed is invalid at once. If it was the signing one, the standby key starts to
   * sign at once. With `compromised`, all signing keys of its algorithm are retired, and no tokens of this algorithm are issued
   * (503) until a new key has been published for six minutes. Requires `pantheon:signing-keys:retire` on a key of the system
   * tenant.
   *
   * @throws PantheonError `not_found`, also for one that is already retired.
   */
  retireSigningKey(kid: string, options: RetireSigningKeyOptions = {}): Promise<void> {
    return this.#deps.signingKeys.retire(kid, options);
  }

  /** The implementation of `APIKeyGenerator.generateJWTFromKey`. */
  signForKey(apiKey: APIKey, metadata: APIKeyMetadata, key: string | null): string {
    assertCertainTime(this.#deps.clock);
    if (metadata.keyId !== apiKey.id)
      throw new PantheonError('invalid_request', { field: 'keyId', detail: 'It is not the id of this key.' });
    const { algorithm, issuer, audience } = metadata;
    if (audience.length === 0)
      throw new PantheonError('invalid_request', { field: 'audience', detail: 'Name at least one audience.' });
    const expiresAt = apiKey.expiresAt?.getTime() ?? null;
    const claims = {
      issuer,
      audience,
      keyId: apiKey.id,
      tokenId: newId(),
      permissions: apiKey.permissions.filter((permission) => !isReserved(permission)),
      now: this.#deps.clock.now(),
      lifetimeSeconds: Math.min(KEY_SIGNED_LIFETIME_MAX_SECONDS, lifetimeOf(apiKey)),
      keyExpiresAt: expiresAt,
    };
    if (algorithm === 'HS256')
      return signWithKey(buildKeySignedClaims(claims), this.#signerOf(apiKey.id, apiKey.version, key));
    return this.#deps.issuer.sign(algorithm, {
      ...claims,
      subject: apiKey.userId,
      tenantId: apiKey.tenantId,
      keyVersion: apiKey.version,
      environment: apiKey.environment,
      customClaims: parseCustomClaims(metadata.customClaims),
    });
  }

  /** From the key string, else from a derived secret that verification has loaded; never from the hash. */
  #signerOf(keyId: string, version: number, key: string | null): KeySigner | null {
    if (key !== null) {
      const parsed = parseKey(key, this.#deps.keyPrefix);
      if (parsed?.id === keyId) return signerOf(parsed);
      throw new PantheonError('invalid_request', { field: 'key', detail: 'It is not the string of this API key.' });
    }
    const known = this.#deps.cache.peek(keyId);
    return known?.secrets.find((one) => one.version === version)?.signing ?? null;
  }

  /**
   * The key was read again after it was verified, and may have changed since. The verification consumed units, and a
   * denial must not, so this throws a 503 instead.
   */
  #assertStillMay({ record, tenant, secrets }: StoredKey, proved: number, key: string): void {
    const version = record.versions.find((one) => one.version === proved);
    const secret = secrets.find((one) => one.version === proved);
    const access = { tenantId: null, environment: null, address: null, permissions: [] };
    const facts = { record, tenant, addresses: null };
    // The secret of the version may have been replaced, so the presented string may be invalid now.
    const isItsSecret = secret !== undefined && timingSafeEqual(secret.keyHash, hashKey(key));
    if (isItsSecret && version !== undefined && decide(facts, version, access, this.#deps.clock.now()) === null) return;
    throw new PantheonError('store_unavailable', {
      detail: 'The key changed during the request.',
      retryAfterSeconds: 1,
    });
  }

  /**
   * Reads the key that a token is made from. Facts too old for an acceptance are not used: a caller that waited for
   * `settledAt` relies on no token being issued based on older facts.
   */
  async #current({ tenantId, keyId }: TokenTarget, reader: TurnKey, asOf: Moment): Promise<StoredKey> {
    const stored = await this.#deps.changes.load(tenantId, keyId, reader);
    this.#assertFresh(asOf);
    return stored;
  }

  #assertFresh(asOf: Moment): void {
    if (this.#deps.validator.isFresh(asOf)) return;
    throw new PantheonError('store_unavailable', { detail: 'Reading the key took too long.', retryAfterSeconds: 1 });
  }
}

/** The lifetime that the policy of the key allows: the service refuses a token with a longer one. */
function lifetimeOf({ jwt }: APIKey): number {
  return (jwt === undefined ? null : parseDuration(jwt.ttl)) ?? KEY_SIGNED_LIFETIME_MAX_SECONDS;
}

/** @throws PantheonError `invalid_request` if tenant or key is not a string. */
function assertTarget(target: { readonly tenantId: string; readonly keyId: string }): void {
  for (const field of ['tenantId', 'keyId'] as const) {
    if (typeof target?.[field] !== 'string') throw new PantheonError('invalid_request', { field, detail: 'A text.' });
  }
}
