/**
 * Verifies a presented key. `verify` runs six steps from top to bottom. It never writes to the database.
 * `verification-attempt.ts` decides when steps have to be repeated.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { AppTypes, GrantablePattern, PermissionPattern } from '../domain/app-types.ts';
import { isExpiring } from '../domain/expiry-notices.ts';
import { ANY_ENVIRONMENT, type Environment, VERSIONS_KEPT_MAX } from '../domain/key.ts';
import type { LimitState, RateLimitRule } from '../domain/limits.ts';
import { mayFetchNextSecret, type RotationHint, rotationHint } from '../domain/rotation-schedule.ts';
import { ANY_TENANT } from '../domain/tenant.ts';
import type { Denial } from '../domain/verification.ts';
import { type Clock, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { isPromise } from '../foundation/is-promise.ts';
import type { LimitDecision, RateLimiter } from '../rate-limit/rate-limiter.ts';
import type { SenderBuckets } from '../rate-limit/sender-buckets.ts';
import type { UsageRecorder } from '../usage/usage-recorder.ts';
import type { UsageOutcome } from '../usage/usage-rows.ts';
import type { KeyLookup } from '../verification/key-lookup.ts';
import { type Sender, shareOf } from '../verification/sender.ts';
import type { VersionSecret } from '../verification/stored-key.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import { hashKey, parseKey } from './key-generator.ts';
import {
  type Evaluation,
  evaluate,
  type Holder,
  UNAUTHENTICATED,
  VerificationAttempt,
} from './verification-attempt.ts';
import { KEY_REQUEST, type KeyUse, toKeyUse, type VerifyRequest } from './verify-request.ts';

/** The identity, permissions and other settings of a verified key. */
export interface VerifiedKey<App extends AppTypes = AppTypes> {
  readonly keyId: string;
  readonly version: number;
  /**
   * When the secret of this version was created. If a repeated request replaces a secret, the new one has a later time.
   */
  readonly secretMadeAt: Instant;
  readonly tenantId: string;
  readonly userId: string;
  readonly name: string;
  readonly environment: Environment;
  readonly permissions: readonly PermissionPattern<App>[];
  readonly grantable: readonly GrantablePattern<App>[];
  readonly ipAllowlist: readonly string[];
  readonly expiresAt: Instant | null;
  /** Whether it expires within the time in which its expiry is announced. */
  readonly expiresSoon: boolean;
  /** What the holder has to do about the rotation of the key; null: nothing. */
  readonly rotation: RotationHint | null;
}

/** A denied verification. */
export type RefusedUse = Extract<Verification, { valid: false }>;

export type Verification<App extends AppTypes = AppTypes> =
  | {
      readonly valid: true;
      readonly key: VerifiedKey<App>;
      readonly limits: readonly LimitState[];
      /**
       * Whether this node admits only its share of each rate limit; `limits` is then about that share. Either Redis
       * does not answer, or there is no Redis and one node is being replaced by another.
       */
      readonly degraded: boolean;
    }
  | {
      readonly valid: false;
      readonly denial: Denial;
      /**
       * Whether the presented credential contained a valid secret of the key. Only then may the caller be told the
       * reason.
       */
      readonly secretVerified: boolean;
      readonly keyId: string | null;
      readonly retryAfterSeconds: number | null;
      readonly limits: readonly LimitState[];
      /** As for a valid key. */
      readonly degraded: boolean;
    };

export interface KeyValidatorDeps {
  readonly lookup: KeyLookup;
  readonly limiter: RateLimiter;
  /** Counts credentials per sender that match no secret. No sender is blocked for it. */
  readonly failures: SenderBuckets;
  readonly usage: UsageRecorder;
  readonly clock: Clock;
  readonly keyPrefix: string;
  /** How long ahead the expiry of a key is announced, in seconds. */
  readonly expiryNotices: readonly number[];
}

const NO_LIMITS: LimitDecision = { admitted: true, limits: [], degraded: false };

export class KeyValidator {
  readonly #deps: KeyValidatorDeps;

  constructor(deps: KeyValidatorDeps) {
    this.#deps = deps;
  }

  /**
   * Whether this key may act now. A denial is returned as a value. Where nothing has to be read, nothing is awaited.
   *
   * @throws PantheonError `invalid_request` when the request is malformed; codes with status 503 when the key cannot be
   * verified now: keep the key and try again.
   */
  async verify(request: VerifyRequest): Promise<Verification> {
    const use = toKeyUse(request, KEY_REQUEST, momentOf(this.#deps.clock));

    // 1. Parse: form and checksum. Malformed input is denied before any I/O.
    const parsed = parseKey(request.key, this.#deps.keyPrefix);
    if (parsed === null) return this.rejectUnauthenticated('malformed', use.sender);
    const digest = hashKey(request.key);

    for (const attempt = this.attempt(parsed.id, use); ; ) {
      // 2. Find: from memory, else one read of the database.
      const finding = attempt.find();
      const found = isPromise(finding) ? await finding : finding;

      // 3. Match: in constant time. An unknown id is compared with decoy hashes.
      const matched = matchSecret(found.secrets, digest);
      attempt.assertReadable(matched !== -1);
      const version = found.facts?.record.versions[matched] ?? null;

      // 4. Decide: pure. The facts must be fresh for an acceptance, and confirmed since arrival for a denial.
      const evaluation = evaluate(found.facts, version, use.access, attempt.now);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial !== null) return this.deny(evaluation, use);

      // 5. Limit: rate limits and quota together, all or nothing.
      const limiting = this.limit(attempt, evaluation.holder.facts, use.cost);
      const limits = isPromise(limiting) ? await limiting : limiting;
      if (!attempt.settlesLimits(evaluation.holder.facts, limits)) continue;

      // 6. Record: counters in memory, not awaited.
      return this.record(evaluation.holder, limits, use);
    }
  }

  /**
   * The key that a key string belongs to, whatever its state, without counting a use. For key strings found in URLs or
   * texts.
   */
  async identify(
    key: string,
    address: string | null,
  ): Promise<{ readonly keyId: string; readonly tenantId: string } | null> {
    const parsed = parseKey(key, this.#deps.keyPrefix);
    if (parsed === null) return null;
    const digest = hashKey(key);
    const sender: Sender = { address, askedBy: null };
    const attempt = this.attempt(parsed.id, { arrived: momentOf(this.#deps.clock), sender });
    for (;;) {
      const found = await attempt.find();
      const matched = matchSecret(found.secrets, digest);
      attempt.assertReadable(matched !== -1);
      const { facts } = found;
      const evaluation: Evaluation<CachedKey> =
        facts?.record.versions[matched] === undefined ? UNAUTHENTICATED : { denial: null, holder: facts };
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial === null) return { keyId: parsed.id, tenantId: evaluation.holder.record.tenantId };
      this.#countFailure(sender);
      return null;
    }
  }

  /**
   * Verifies a key string for fetching the next secret of its key, and for nothing else: as `verify`, except that the
   * version before the current one counts as accepted for a key with a recipient, also after its overlap. Then it takes
   * nothing from the limits of the key, which the holder of an old string must not use up, but from a budget of its own.
   */
  async verifyForNext(key: string, address: string | null): Promise<Verification> {
    const asked = { ip: address, tenant: ANY_TENANT, environment: ANY_ENVIRONMENT } as const;
    const use = toKeyUse(asked, KEY_REQUEST, momentOf(this.#deps.clock));
    const parsed = parseKey(key, this.#deps.keyPrefix);
    if (parsed === null) return this.rejectUnauthenticated('malformed', use.sender);
    const digest = hashKey(key);
    for (const attempt = this.attempt(parsed.id, use); ; ) {
      const found = await attempt.find();
      const matched = matchSecret(found.secrets, digest);
      attempt.assertReadable(matched !== -1);
      const { facts } = found;
      const version = facts?.record.versions[matched] ?? null;
      const isEnded = facts !== null && version !== null && mayFetchNextSecret(facts.record, version, attempt.now);
      const asAccepted = isEnded ? { ...version, acceptedUntil: null } : version;
      const evaluation = evaluate(facts, asAccepted, use.access, attempt.now);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial !== null) return this.deny(evaluation, use);
      const limiting = isEnded
        ? (attempt.limitsBefore(evaluation.holder.facts) ?? this.#fetchBudget(evaluation.holder.facts))
        : this.limit(attempt, evaluation.holder.facts, use.cost);
      const limits = await limiting;
      if (!attempt.settlesLimits(evaluation.holder.facts, limits)) continue;
      if (!isEnded) return this.record(evaluation.holder, limits, use);
      const holder = { facts: evaluation.holder.facts, version };
      this.#count(holder, 'version_retired', use.access.address, this.#deps.clock.now());
      return this.#answer(holder, { ...limits, limits: [] }, this.#deps.clock.now());
    }
  }

  #fetchBudget({ record: { id, tenantId, createdAt } }: CachedKey): LimitDecision | Promise<LimitDecision> {
    // Counted like a limit of the key, under an id that no key has.
    const keyId = `next-secret:${id}`;
    return this.#deps.limiter.decide({ tenantId, keyId, createdAt, rules: FETCH_RULES, quota: null, cost: 1 });
  }

  /** Whether facts of that age are fresh enough for an acceptance. */
  isFresh(asOf: Moment): boolean {
    return this.#deps.lookup.isFresh(asOf);
  }

  /**
   * Begins the lookup of a key. This and the following methods are the steps that token verification shares
   * (`jwt/token-verifier.ts`).
   */
  attempt(keyId: string, use: Pick<KeyUse, 'arrived' | 'sender'>): VerificationAttempt {
    return new VerificationAttempt(this.#deps, keyId, use);
  }

  /**
   * The answer when no secret matched: the same for every cause, so that a caller cannot probe which keys exist. `code`
   * is for the operator.
   */
  rejectUnauthenticated(code: 'malformed' | 'unknown', sender: Sender): RefusedUse {
    this.#countFailure(sender);
    this.#deps.usage.recordUnmatched(code);
    return { ...NOTHING_TAKEN, denial: { code }, secretVerified: false, keyId: null };
  }

  /** Checks the limits of the key, unless they were already checked in this attempt. */
  limit(attempt: VerificationAttempt, facts: CachedKey, cost: number): LimitDecision | Promise<LimitDecision> {
    const before = attempt.limitsBefore(facts);
    if (before !== null) return before;
    const { id: keyId, tenantId, createdAt, rateLimits: rules, quota } = facts.record;
    if (rules.length === 0 && quota === null) return NO_LIMITS;
    return this.#deps.limiter.decide({ tenantId, keyId, createdAt, rules, quota, cost });
  }

  /** The result of a denial, counted in the usage of the key if its secret matched. */
  deny({ denial, holder }: Extract<Evaluation, { denial: Denial }>, { access, sender }: KeyUse): RefusedUse {
    if (holder === null) return this.rejectUnauthenticated('unknown', sender);
    this.#count(holder, denial.code, access.address, this.#deps.clock.now());
    return { ...NOTHING_TAKEN, denial, secretVerified: true, keyId: holder.facts.record.id };
  }

  /** The result after the limits were checked, counted in the usage of the key. */
  record(holder: Holder, decision: LimitDecision, { access }: KeyUse): Verification {
    const now = this.#deps.clock.now();
    this.#count(holder, decision.admitted ? 'valid' : decision.code, access.address, now);
    return this.#answer(holder, decision, now);
  }

  #answer(holder: Holder, decision: LimitDecision, now: Instant): Verification {
    const { limits, degraded } = decision;
    const { record } = holder.facts;
    if (decision.admitted) {
      const expiresSoon = record.expiresAt !== null && isExpiring(record, this.#deps.expiryNotices, now);
      return { valid: true, key: verifiedKey(holder, now, expiresSoon), limits, degraded };
    }
    const { code, retryAfterSeconds, violated } = decision;
    const denial = { code, violated };
    return { valid: false, denial, secretVerified: true, keyId: record.id, retryAfterSeconds, limits, degraded };
  }

  #countFailure(sender: Sender): void {
    const { account } = shareOf(sender);
    if (account !== null) this.#deps.failures.charge(account);
  }

  #count({ facts, version }: Holder, outcome: UsageOutcome, address: string | null, at: Instant): void {
    const { id: keyId, tenantId } = facts.record;
    this.#deps.usage.record({ tenantId, keyId, version: version.version, outcome, address, at });
  }
}

/** How often a version that has ended may ask for the next secret of its key. */
const FETCH_RULES: readonly RateLimitRule[] = [{ name: 'next-secret', limit: 60, windowSeconds: 60 }];

/** A denial in which no limit was involved. */
const NOTHING_TAKEN = { valid: false, retryAfterSeconds: null, limits: [], degraded: false } as const;

/** Compared for an unknown id, so that "no such key" and "wrong secret" take the same work (I12). */
const DECOY: VersionSecret = { version: 0, keyHash: randomBytes(32), signing: null };

/**
 * The index of the secret with this hash; -1: none. The current version is compared first. If it does not match, the
 * maximum number of versions is compared, with decoys where there are fewer, so that the time reveals nothing about the
 * key.
 */
function matchSecret(secrets: readonly VersionSecret[], digest: Buffer): number {
  let matched = -1;
  for (let at = 0; at < VERSIONS_KEPT_MAX && matched !== 0; at += 1) {
    const { keyHash } = secrets[at] ?? DECOY;
    if (timingSafeEqual(keyHash, digest) && at < secrets.length) matched = at;
  }
  return matched;
}

function verifiedKey({ facts: { record }, version }: Holder, now: Instant, expiresSoon: boolean): VerifiedKey {
  const { id, tenantId, userId, name, environment, permissions, grantable, ipAllowlist, expiresAt } = record;
  return {
    keyId: id,
    version: version.version,
    secretMadeAt: version.createdAt,
    tenantId,
    userId,
    name,
    environment,
    permissions,
    grantable,
    ipAllowlist,
    expiresAt,
    expiresSoon,
    rotation: rotationHint(record, version, now),
  };
}
