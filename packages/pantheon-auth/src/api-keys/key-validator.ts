/**
 * The one place that turns a presented key into a verdict. `verify` reads top to bottom in the order the steps run. It
 * never writes: changes to a key are `key-manager.ts`. When a step has to be done again is `verification-attempt.ts`.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { AppTypes, GrantablePattern, PermissionPattern } from '../domain/app-types.ts';
import { type Environment, VERSIONS_KEPT_MAX } from '../domain/key.ts';
import type { LimitState } from '../domain/limits.ts';
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
import { type KeyUse, toKeyUse, type VerifyRequest } from './verify-request.ts';

/** What a verified key is and may do. */
export interface VerifiedKey<App extends AppTypes = AppTypes> {
  readonly keyId: string;
  readonly version: number;
  /** When the secret of this version was made. A secret that replaced it, before its first use, was made later. */
  readonly secretMadeAt: Instant;
  readonly tenantId: string;
  readonly userId: string;
  readonly name: string;
  readonly environment: Environment;
  readonly permissions: readonly PermissionPattern<App>[];
  readonly grantable: readonly GrantablePattern<App>[];
  readonly ipAllowlist: readonly string[];
  readonly expiresAt: Instant | null;
}

/** A refused use. */
export type RefusedUse = Extract<Verification, { valid: false }>;

export type Verification<App extends AppTypes = AppTypes> =
  | {
      readonly valid: true;
      readonly key: VerifiedKey<App>;
      readonly limits: readonly LimitState[];
      /**
       * Whether this node admitted only its share of each rate limit, of which `limits` says what remains: the server where
       * all nodes count does not answer, or this node and the one that replaces it run beside each other.
       */
      readonly degraded: boolean;
    }
  | {
      readonly valid: false;
      readonly denial: Denial;
      /** Whether a secret of the key was presented: only then may the caller be told the reason. */
      readonly secretVerified: boolean;
      readonly keyId: string | null;
      readonly retryAfterSeconds: number | null;
      readonly limits: readonly LimitState[];
      /** As above. */
      readonly degraded: boolean;
    };

export interface KeyValidatorDeps {
  readonly lookup: KeyLookup;
  readonly limiter: RateLimiter;
  /** Counts who presents what matches no secret. Nobody is refused for it. */
  readonly failures: SenderBuckets;
  readonly usage: UsageRecorder;
  readonly clock: Clock;
  readonly keyPrefix: string;
}

const NO_LIMITS: LimitDecision = { admitted: true, limits: [], degraded: false };

export class KeyValidator {
  readonly #deps: KeyValidatorDeps;

  constructor(deps: KeyValidatorDeps) {
    this.#deps = deps;
  }

  /**
   * Whether this key may act now. A "no" is a value. Nothing is awaited where nothing has to be waited for.
   *
   * @throws PantheonError `invalid_request` when the question is not well formed; 503 codes when it cannot be answered:
   * never a verdict, keep the key and try again.
   */
  async verify(request: VerifyRequest): Promise<Verification> {
    const use = toKeyUse(request, momentOf(this.#deps.clock));

    // 1. Parse: shape and checksum. Junk is turned away before any I/O.
    const parsed = parseKey(request.key, this.#deps.keyPrefix);
    if (parsed === null) return this.rejectUnauthenticated('malformed', use.sender);
    const digest = hashKey(request.key);

    for (const attempt = this.attempt(parsed.id, use); ; ) {
      // 2. Find: from memory, else one read of the store.
      const finding = attempt.find();
      const found = isPromise(finding) ? await finding : finding;

      // 3. Match: in constant time. An unknown id is compared with decoys.
      const matched = matchSecret(found.secrets, digest);
      attempt.assertReadable(matched !== -1);
      const version = found.facts?.record.versions[matched] ?? null;

      // 4. Decide: pure, on facts that are young enough for a yes and confirmed since arrival for a no.
      const evaluation = evaluate(found.facts, version, use.access, attempt.now);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial !== null) return this.deny(evaluation, use);

      // 5. Limit: rate limits and quota together, all or nothing.
      const limiting = this.limit(attempt, evaluation.holder.facts, use.cost);
      const limits = isPromise(limiting) ? await limiting : limiting;
      if (!attempt.settlesLimits(evaluation.holder.facts, limits)) continue;

      // 6. Record: counters in memory, never waited for.
      return this.record(evaluation.holder, limits, use);
    }
  }

  /** Whose key string this is, whatever its state, without using it: for a string that turned up where it should not. */
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

  /** Whether facts of that age are young enough for a yes. */
  isFresh(asOf: Moment): boolean {
    return this.#deps.lookup.isFresh(asOf);
  }

  /** Begins to look a key up. This and what follows are the steps that tokens share (`jwt/token-verifier.ts`). */
  attempt(keyId: string, use: Pick<KeyUse, 'arrived' | 'sender'>): VerificationAttempt {
    return new VerificationAttempt(this.#deps, keyId, use);
  }

  /**
   * The one answer where no secret was matched: the same for every cause, so that a caller cannot probe which keys exist.
   * The true cause is for the operator.
   */
  rejectUnauthenticated(code: 'malformed' | 'unknown', sender: Sender): RefusedUse {
    this.#countFailure(sender);
    this.#deps.usage.recordUnmatched(code);
    return { ...NOTHING_TAKEN, denial: { code }, secretVerified: false, keyId: null };
  }

  /** Asks the limits of the key, unless they have answered this attempt before. */
  limit(attempt: VerificationAttempt, facts: CachedKey, cost: number): LimitDecision | Promise<LimitDecision> {
    const before = attempt.limitsBefore(facts);
    if (before !== null) return before;
    const { id: keyId, tenantId, createdAt, rateLimits: rules, quota } = facts.record;
    if (rules.length === 0 && quota === null) return NO_LIMITS;
    return this.#deps.limiter.decide({ tenantId, keyId, createdAt, rules, quota, cost });
  }

  /** The answer to a denial, counted with the key whose secret was presented. */
  deny({ denial, holder }: Extract<Evaluation, { denial: Denial }>, { access, sender }: KeyUse): RefusedUse {
    if (holder === null) return this.rejectUnauthenticated('unknown', sender);
    this.#count(holder, denial.code, access.address);
    return { ...NOTHING_TAKEN, denial, secretVerified: true, keyId: holder.facts.record.id };
  }

  /** The answer that the limits give, counted. */
  record(holder: Holder, decision: LimitDecision, { access }: KeyUse): Verification {
    this.#count(holder, decision.admitted ? 'valid' : decision.code, access.address);
    const { limits, degraded } = decision;
    if (decision.admitted) return { valid: true, key: verifiedKey(holder), limits, degraded };
    const { code, retryAfterSeconds, violated } = decision;
    return {
      valid: false,
      denial: { code, violated },
      secretVerified: true,
      keyId: holder.facts.record.id,
      retryAfterSeconds,
      limits,
      degraded,
    };
  }

  #countFailure(sender: Sender): void {
    const { account } = shareOf(sender);
    if (account !== null) this.#deps.failures.charge(account);
  }

  #count({ facts, version }: Holder, outcome: UsageOutcome, address: string | null): void {
    const { id: keyId, tenantId } = facts.record;
    const at = this.#deps.clock.now();
    this.#deps.usage.record({ tenantId, keyId, version: version.version, outcome, address, at });
  }
}

/** A no that no limit had a part in. */
const NOTHING_TAKEN = { valid: false, retryAfterSeconds: null, limits: [], degraded: false } as const;

/** Compared when there is nothing to compare with, so that "no such key" and "wrong secret" do the same work (I12). */
const DECOY: VersionSecret = { version: 0, keyHash: randomBytes(32), signing: null };

/**
 * Where the secret with this hash is; -1: nowhere. The current one is tried first; who does not hold it is compared with as
 * many hashes as a key can have, decoys where there are fewer, so that time tells nothing about the key.
 */
function matchSecret(secrets: readonly VersionSecret[], digest: Buffer): number {
  let matched = -1;
  for (let at = 0; at < VERSIONS_KEPT_MAX && matched !== 0; at += 1) {
    const { keyHash } = secrets[at] ?? DECOY;
    if (timingSafeEqual(keyHash, digest) && at < secrets.length) matched = at;
  }
  return matched;
}

function verifiedKey({ facts, version }: Holder): VerifiedKey {
  const { id, tenantId, userId, name, environment, permissions, grantable, ipAllowlist, expiresAt } = facts.record;
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
  };
}
