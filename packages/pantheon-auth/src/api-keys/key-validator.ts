/**
 * The one place that turns a presented key into a verdict. Reads top to bottom in the order the steps run. It never
 * writes: changes to a key are `key-manager.ts`.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { type Environment, type KeyVersion, VERSIONS_KEPT_MAX } from '../domain/key.ts';
import type { LimitState } from '../domain/limits.ts';
import { type Demand, type Denial, decide } from '../domain/verification.ts';
import { type Clock, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type Ready, whenReady } from '../foundation/readiness.ts';
import type { LimitDecision, RateLimiter } from '../rate-limit/rate-limiter.ts';
import type { SenderBuckets } from '../rate-limit/sender-buckets.ts';
import type { UsageRecorder } from '../usage/usage-recorder.ts';
import type { UsageOutcome } from '../usage/usage-rows.ts';
import type { ConfirmedFacts, Judge, Judgement, Question } from './confirmed-facts.ts';
import { hashKey, parseKey } from './key-generator.ts';
import type { VersionSecret } from './key-storage.ts';
import { type Sender, senderOf, shareOf } from './sender.ts';
import type { KnownKey } from './verification-cache.ts';
import { toCost, toDemand, type VerifyRequest } from './verify-request.ts';

/** What a verified key is and may do. */
export interface VerifiedKey {
  readonly keyId: string;
  readonly version: number;
  /** When the secret of this version was made. A secret that replaced it, before its first use, was made later. */
  readonly secretMadeAt: Instant;
  readonly tenantId: string;
  readonly userId: string;
  readonly name: string;
  readonly environment: Environment;
  readonly permissions: readonly string[];
  readonly grantable: readonly string[];
  readonly ipAllowlist: readonly string[];
  readonly expiresAt: Instant | null;
}

/** A refused use. */
export type RefusedUse = Extract<Verification, { valid: false }>;

export type Verification =
  | {
      readonly valid: true;
      readonly key: VerifiedKey;
      readonly limits: readonly LimitState[];
      /**
       * Whether this node admitted only its share of each rate limit, of which `limits` says what remains: the place where
       * all nodes count does not answer, or this node and the one that replaces it run beside each other.
       */
      readonly degraded: boolean;
    }
  | {
      readonly valid: false;
      readonly denial: Denial;
      /** Whether the secret was proved: only then may the holder be told the reason (I12). */
      readonly proved: boolean;
      readonly keyId: string | null;
      readonly retryAfterSeconds: number | null;
      readonly limits: readonly LimitState[];
      /** As above. */
      readonly degraded: boolean;
    };

/** What a credential proves about a key: which version made it, and what it says against itself (an expired token). */
export interface Proof {
  readonly version: KeyVersion;
  readonly denial: Denial | null;
}

/** A use of a key by a credential that can prove itself against the facts of the key: the key string, or a token. */
export interface KeyUse {
  readonly keyId: string;
  readonly arrived: Moment;
  readonly demand: Demand;
  readonly sender: Sender;
  readonly cost: number;
  /** Pure; null: nothing is proved. */
  readonly prove: (facts: KnownKey | null, now: Instant) => Proof | null;
  /** The same against the secrets alone, where the rest of the key cannot be read. Null: the credential was proved before. */
  readonly isProvedBy: Question<unknown>['isProvedBy'];
}

/** Whose key it is and which version was proved. */
interface Holder {
  readonly facts: KnownKey;
  readonly version: KeyVersion;
}

type RefusedByLimits = Extract<LimitDecision, { admitted: false }>;

export interface KeyValidatorDeps {
  readonly facts: ConfirmedFacts;
  readonly limiter: RateLimiter;
  /** Counts who presents what proves nothing. Nobody is refused for it. */
  readonly failures: SenderBuckets;
  readonly usage: UsageRecorder;
  readonly clock: Clock;
  readonly keyPrefix: string;
}

const NO_LIMITS: LimitDecision = { admitted: true, limits: [], degraded: false };

export class KeyValidator {
  readonly #facts: ConfirmedFacts;
  readonly #limiter: RateLimiter;
  readonly #failures: SenderBuckets;
  readonly #usage: UsageRecorder;
  readonly #clock: Clock;
  readonly #keyPrefix: string;

  constructor(deps: KeyValidatorDeps) {
    this.#facts = deps.facts;
    this.#limiter = deps.limiter;
    this.#failures = deps.failures;
    this.#usage = deps.usage;
    this.#clock = deps.clock;
    this.#keyPrefix = deps.keyPrefix;
  }

  /**
   * Whether this key may act now. A "no" is a value.
   *
   * @throws PantheonError `invalid_request` when the question is not well formed; 503 codes when it cannot be answered:
   * never a verdict, keep the key and try again.
   */
  async verify(request: VerifyRequest): Promise<Verification> {
    const arrived = momentOf(this.#clock);
    const demand = toDemand(request);
    const cost = toCost(request.cost);

    const sender = senderOf(request, demand.address);

    // 1. Parse: shape and checksum. Junk is turned away before any I/O.
    const parsed = parseKey(request.key, this.#keyPrefix);
    if (parsed === null) return this.unproved('malformed', sender);

    const digest = hashKey(request.key);
    const prove = (facts: KnownKey | null): Proof | null => matchVersion(facts, digest);
    const isProvedBy = (secrets: readonly VersionSecret[]): boolean => matchSecret(secrets, digest) !== -1;
    // The others are below: tokens take the same way.
    return await this.use({ keyId: parsed.id, arrived, demand, sender, cost, prove, isProvedBy });
  }

  /** Whose key string this is, whatever its state, without using it: for a string that turned up where it should not. */
  async identify(
    key: string,
    address: string | null,
  ): Promise<{ readonly keyId: string; readonly tenantId: string } | null> {
    const parsed = parseKey(key, this.#keyPrefix);
    if (parsed === null) return null;
    const digest = hashKey(key);
    const sender = { address, askedBy: null };
    const judged = await this.#facts.judge({
      keyId: parsed.id,
      arrived: momentOf(this.#clock),
      judge: (facts): Judgement<KnownKey> =>
        facts !== null && matchVersion(facts, digest) !== null
          ? { yes: true, proved: facts }
          : { yes: false, denial: UNKNOWN, proved: null },
      sender,
      isProvedBy: (secrets) => matchSecret(secrets, digest) !== -1,
    });
    if (judged.yes) return { keyId: parsed.id, tenantId: judged.proved.record.tenantId };
    this.#countFailure(sender);
    return null;
  }

  /** Steps 2 to 6, for whatever proves a key. Tokens come here from `jwt/token-verifier.ts`. */
  use(use: KeyUse): Ready<Verification> {
    const { demand } = use;
    // 2. Find, 3. match and 4. decide: on facts that are young enough for a yes and confirmed since arrival for a no.
    const judge: Judge<Holder> = (facts, now) => this.#judge(facts, use, now);
    return whenReady(this.#facts.judge(questionOf(use, judge)), (judged) => {
      if (!judged.yes) {
        if (judged.proved !== null) return this.#denied(judged.proved, judged.denial, demand);
        return this.unproved('unknown', use.sender);
      }

      // 5. Limit: rate limits and quota together, all or nothing.
      const holder = judged.proved;
      return whenReady(this.#limit(holder.facts, use.cost), (decision) => {
        if (decision.admitted) return this.#admitted(holder, judged.asOf, decision, use, judge);
        // Rules that are remembered may have been widened elsewhere since: they say no only when confirmed (I5).
        const isConfirmed = judged.asOf.monotonicMs >= use.arrived.monotonicMs;
        return isConfirmed ? this.#limited(holder, decision, demand) : this.#limitAgain(holder, decision, use, judge);
      });
    });
  }

  /** Whether facts of that age are young enough for a yes. */
  isFresh(asOf: Moment): boolean {
    return this.#facts.isFresh(asOf);
  }

  /** The one answer to whoever proved nothing (I12); the true cause is for the operator. */
  unproved(code: 'malformed' | 'unknown', sender: Sender): RefusedUse {
    this.#countFailure(sender);
    this.#usage.recordUnmatched(code);
    return { ...NOTHING_TAKEN, denial: { code }, proved: false, keyId: null };
  }

  #judge(facts: KnownKey | null, { prove, demand }: KeyUse, now: Instant): Judgement<Holder> {
    const proof = prove(facts, now);
    if (facts === null || proof === null) return { yes: false, denial: UNKNOWN, proved: null };
    const holder = { facts, version: proof.version };
    const denial = decide(facts, proof.version, demand, now, proof.denial);
    if (denial === null) return { yes: true, proved: holder };
    // What belongs to another tenant does not exist (I10), however well it was proved.
    return { yes: false, denial, proved: denial.code === 'unknown' ? null : holder };
  }

  #limit(facts: KnownKey, cost: number): Ready<LimitDecision> {
    const { id: keyId, tenantId, createdAt, rateLimits: rules, quota } = facts.record;
    if (rules.length === 0 && quota === null) return NO_LIMITS;
    return this.#limiter.decide({ tenantId, keyId, createdAt, rules, quota, cost });
  }

  #admitted(
    holder: Holder,
    asOf: Moment,
    { limits, degraded }: LimitDecision,
    use: KeyUse,
    judge: Judge<Holder>,
  ): Ready<Verification> {
    // 6. Record: counters in memory, never waited for.
    const answer = (now: Holder): Verification => {
      this.#record(now, 'valid', use.demand);
      return { valid: true, key: verifiedKey(now), limits, degraded };
    };
    // The last look before a yes: the limiter may have waited. The answer then speaks of the key as it is by now.
    return this.#facts.isFresh(asOf) ? answer(holder) : this.#confirmAgain(use, judge).then(answer);
  }

  /** Refused by rules that were remembered: asked once more if they have changed, and then it stands. */
  async #limitAgain(
    holder: Holder,
    refused: RefusedByLimits,
    use: KeyUse,
    judge: Judge<Holder>,
  ): Promise<Verification> {
    await this.#facts.confirmSince(use.arrived);
    const judged = await this.#facts.judge(questionOf(use, judge));
    if (!judged.yes) {
      // The refusal took nothing, so this may be told (I8). Null: what was proved is not the key's any more.
      return judged.proved === null
        ? this.unproved('unknown', use.sender)
        : this.#denied(judged.proved, judged.denial, use.demand);
    }
    if (judged.proved.facts === holder.facts) return this.#limited(holder, refused, use.demand);
    const decision = await this.#limit(judged.proved.facts, use.cost);
    return decision.admitted
      ? this.#admitted(judged.proved, judged.asOf, decision, use, judge)
      : this.#limited(judged.proved, decision, use.demand);
  }

  /** The limiter waited for too long. What it took is not given back: a 503 is not a verdict, so I8 holds. */
  async #confirmAgain(use: KeyUse, judge: Judge<Holder>): Promise<Holder> {
    const again = await this.#facts.judge({ ...questionOf(use, judge), arrived: momentOf(this.#clock) });
    if (again.yes) return again.proved;
    throw new PantheonError('store_unavailable', { detail: 'The key changed meanwhile.', retryAfterSeconds: 1 });
  }

  #countFailure(sender: Sender): void {
    const { account } = shareOf(sender);
    if (account !== null) this.#failures.charge(account);
  }

  #denied(holder: Holder, denial: Denial, demand: Demand): Verification {
    this.#record(holder, denial.code, demand);
    return { ...NOTHING_TAKEN, denial, proved: true, keyId: holder.facts.record.id };
  }

  #limited(holder: Holder, decision: RefusedByLimits, demand: Demand): Verification {
    this.#record(holder, decision.code, demand);
    const { code, retryAfterSeconds, limits, violated, degraded } = decision;
    return {
      valid: false,
      denial: { code, violated },
      proved: true,
      keyId: holder.facts.record.id,
      retryAfterSeconds,
      limits,
      degraded,
    };
  }

  #record(holder: Holder, outcome: UsageOutcome, demand: Demand): void {
    const { id: keyId, tenantId } = holder.facts.record;
    const { version } = holder.version;
    this.#usage.record({ tenantId, keyId, version, outcome, address: demand.address, at: this.#clock.now() });
  }
}

const UNKNOWN: Denial = { code: 'unknown' };

/** A no that no limit had a part in. */
const NOTHING_TAKEN = { valid: false, retryAfterSeconds: null, limits: [], degraded: false } as const;

/** Compared when there is nothing to compare with, so that "no such key" and "wrong secret" do the same work (I12). */
const DECOY: VersionSecret = { version: 0, keyHash: randomBytes(32), signing: null };

/**
 * The version whose hash this is. The current one is tried first; who does not hold it is compared with as many hashes
 * as a key can have, decoys in the places that are empty, so that time tells nothing about the key.
 */
function matchVersion(facts: KnownKey | null, digest: Buffer): Proof | null {
  // Compared before anything else, so that an unknown id takes as long.
  const matched = matchSecret(facts?.secrets ?? [], digest);
  const version = facts?.record.versions[matched];
  return version === undefined ? null : { version, denial: null };
}

/** Where the secret with this hash is; -1: nowhere. */
function matchSecret(secrets: readonly VersionSecret[], digest: Buffer): number {
  let matched = -1;
  for (let at = 0; at < VERSIONS_KEPT_MAX && matched !== 0; at += 1) {
    const { keyHash } = secrets[at] ?? DECOY;
    if (timingSafeEqual(keyHash, digest) && at < secrets.length) matched = at;
  }
  return matched;
}

function questionOf({ keyId, arrived, sender, isProvedBy }: KeyUse, judge: Judge<Holder>): Question<Holder> {
  return { keyId, arrived, judge, sender, isProvedBy };
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
