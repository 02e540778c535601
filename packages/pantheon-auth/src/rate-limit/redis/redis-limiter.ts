/**
 * The limiter of one of several nodes: rate limits are counted in Redis, quotas in the database. When Redis does not
 * answer, the node decides alone with its share, or answers 503, as the policy says.
 *
 * No unit is spent twice because of an outage. What Redis admits is also counted in memory, so that the share begins
 * with what this node has already admitted. Units admitted during an outage are reported to Redis with the next request
 * for that key.
 */
import type { LimitState } from '../../domain/limits.ts';
import type { Clock } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { HeldQuota, MemoryLimiter } from '../memory/memory-limiter.ts';
import { answeredByShare, RuleShares } from '../memory/rule-shares.ts';
import { assertRule } from '../memory/sliding-window.ts';
import {
  assertCost,
  type LimitDecision,
  type LimiterStatus,
  type LimitRequest,
  QUOTA_NAME,
  type RateLimiter,
} from '../rate-limiter.ts';
import type { RedisConnection, Unanswered } from './redis-connection.ts';
import { bucketOf, decideCall, readAnswer, type WindowsAnswer } from './redis-windows.ts';

/** What happens while Redis does not answer: `local` admits this node's share, `deny` answers 503. */
export type LimiterOutagePolicy = 'local' | 'deny';

/** `Retry-After` during an outage: Redis is probed about this often. */
const OUTAGE_RETRY_SECONDS = 1;

const OWES_NOTHING: readonly number[] = [];

export interface RedisLimiterOptions {
  readonly clock: Clock;
  readonly connection: RedisConnection;
  readonly memory: MemoryLimiter;
  readonly nodeCount: () => number;
  readonly onLimiterOutage: LimiterOutagePolicy;
}

export class RedisLimiter implements RateLimiter {
  readonly #options: RedisLimiterOptions;
  readonly #shares = new RuleShares();
  #degradedDecisions = 0;
  readonly #underWay = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(options: RedisLimiterOptions) {
    this.#options = options;
  }

  decide(request: LimitRequest): LimitDecision | Promise<LimitDecision> {
    assertCost(request.cost);
    if (this.#isClosed) throw new PantheonError('shutting_down');
    // Quotas are counted in the database, so without rate limits Redis is not needed.
    if (request.rules.length === 0) return this.#options.memory.decide(request);
    for (const rule of request.rules) assertRule(rule);
    const decision = this.#decideTogether(request);
    this.#underWay.add(decision);
    const isOver = (): void => void this.#underWay.delete(decision);
    decision.then(isOver, isOver);
    return decision;
  }

  status(): LimiterStatus {
    return { isDegraded: this.#options.connection.isDegraded, degradedDecisions: this.#degradedDecisions };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#underWay);
    this.#options.connection.close();
    await this.#options.memory.close();
  }

  async #decideTogether(request: LimitRequest): Promise<LimitDecision> {
    const { memory } = this.#options;

    // 1. The quota first, in memory, because it can be returned; counts in Redis cannot.
    const held = request.quota === null ? null : await memory.holdQuota(request);

    // 2. The rate limits, in one round trip. With a used-up quota they are only read, for the answer.
    let answer: WindowsAnswer | Unanswered = 'not_counted';
    try {
      answer = await this.#askRedis(request, held === null || held.hold !== null);
    } finally {
      const isAdmitted = typeof answer === 'object' && answer.isAdmitted;
      if (!isAdmitted && held !== null && held.hold !== null) held.quota.giveBack(held.hold);
    }
    if (typeof answer === 'string') return this.#decideAlone(request, answer);

    // 3. The answer.
    if (!answer.isAdmitted) return denied(request, answer, held);
    if (this.#options.onLimiterOutage === 'local') memory.mirror(request);
    return { admitted: true, limits: statesOf(answer, held), degraded: false };
  }

  async #askRedis(request: LimitRequest, isTaking: boolean): Promise<WindowsAnswer | Unanswered> {
    const { connection, memory, clock } = this.#options;
    if (!connection.canAsk(bucketOf(request.keyId))) return 'not_counted';
    // Redis works and counts other requests, so admitting a share in addition would exceed the limit.
    if (connection.isBusy) throw overloaded();
    const pending = memory.takePending(request);
    const call = decideCall(request, { now: clock.now(), isTaking, pending: pending?.perRule ?? OWES_NOTHING });
    const answer = await connection.decide(call);
    if (typeof answer !== 'string') return readAnswer(answer, request);
    // The report may have arrived. It is then counted twice, which admits less, never more.
    if (pending !== null) memory.addDebt(request.keyId, pending.units);
    return answer;
  }

  async #decideAlone(request: LimitRequest, answer: Unanswered): Promise<LimitDecision> {
    const { memory, nodeCount, onLimiterOutage } = this.#options;
    this.#degradedDecisions += 1;
    if (onLimiterOutage === 'deny') throw unavailable();
    const decision = await memory.decide({ ...request, rules: this.#shares.of(request.rules, nodeCount()) });
    // Redis may have counted the request. A denial must not consume anything (I8), so the answer is a 503.
    if (!decision.admitted && answer === 'unknown') throw unavailable();
    if (decision.admitted) memory.addDebt(request.keyId, request.cost);
    return answeredByShare(decision, request.rules);
  }
}

function unavailable(): PantheonError {
  const detail = 'Redis, which counts limits, does not answer.';
  return new PantheonError('limiter_unavailable', { detail, retryAfterSeconds: OUTAGE_RETRY_SECONDS });
}

function overloaded(): PantheonError {
  const detail = 'Too many requests wait for Redis.';
  return new PantheonError('limiter_unavailable', { detail, retryAfterSeconds: OUTAGE_RETRY_SECONDS });
}

function denied(request: LimitRequest, answer: WindowsAnswer, held: HeldQuota | null): LimitDecision {
  const violated: string[] = [];
  let retryAfterSeconds = 1;
  request.rules.forEach(({ name }, nth) => {
    const wait = answer.waitSeconds[nth] ?? 0;
    if (wait === 0) return;
    violated.push(name);
    retryAfterSeconds = Math.max(retryAfterSeconds, wait);
  });
  const isQuotaUsedUp = held !== null && held.hold === null;
  if (isQuotaUsedUp) {
    violated.push(QUOTA_NAME);
    retryAfterSeconds = Math.max(retryAfterSeconds, held.quota.secondsUntilTurn());
  }
  // If both are exceeded the quota is reported, because it lasts longer.
  const code = isQuotaUsedUp ? 'quota_exceeded' : 'rate_limited';
  return { admitted: false, code, violated, retryAfterSeconds, limits: statesOf(answer, held), degraded: false };
}

function statesOf({ limits }: WindowsAnswer, held: HeldQuota | null): readonly LimitState[] {
  const quotaState = held?.quota.state() ?? null;
  return quotaState === null ? limits : [...limits, quotaState];
}
