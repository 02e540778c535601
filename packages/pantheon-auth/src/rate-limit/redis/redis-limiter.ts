/**
 * The limiter of a node that is one of many: windows are counted in Redis, together; the quota is leased in SQL, as
 * everywhere. When Redis is away, the node decides for itself with its share, or refuses, as the policy says.
 *
 * No unit is spent twice over an outage. While all is well, what Redis admits is noted in memory too, so that the share
 * begins with what this node has admitted already. What is admitted alone is owed, and told to Redis with the next
 * question about that key.
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

/** What happens to limits while Redis is away: `local` admits this node's share, `deny` answers 503. */
export type LimiterOutagePolicy = 'local' | 'deny';

/** When to ask again: Redis is probed about this often. */
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
    // A quota is counted in SQL: without rules there is nothing to ask Redis.
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

    // 1. The quota first, in memory: it can be given back, what Redis has counted cannot.
    const held = request.quota === null ? null : await memory.holdQuota(request);

    // 2. The windows, in one round trip. With a quota used up they are only asked, for the answer.
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
    // Redis is well and has counted others: a share beside it would be more than the limit.
    if (connection.isBusy) throw overloaded();
    const pending = memory.takePending(request);
    const call = decideCall(request, { now: clock.now(), isTaking, pending: pending?.perRule ?? OWES_NOTHING });
    const answer = await connection.decide(call);
    if (typeof answer !== 'string') return readAnswer(answer, request);
    // It may have arrived all the same. Then it is counted twice, which admits less and never more.
    if (pending !== null) memory.addDebt(request.keyId, pending.units);
    return answer;
  }

  async #decideAlone(request: LimitRequest, answer: Unanswered): Promise<LimitDecision> {
    const { memory, nodeCount, onLimiterOutage } = this.#options;
    this.#degradedDecisions += 1;
    if (onLimiterOutage === 'deny') throw unavailable();
    const decision = await memory.decide({ ...request, rules: this.#shares.of(request.rules, nodeCount()) });
    // Redis may have counted it: then a denial would have consumed something (I8), and a 503 may.
    if (!decision.admitted && answer === 'unknown') throw unavailable();
    if (decision.admitted) memory.addDebt(request.keyId, request.cost);
    return answeredByShare(decision, request.rules);
  }
}

function unavailable(): PantheonError {
  const detail = 'Redis, where limits are counted, does not answer.';
  return new PantheonError('limiter_unavailable', { detail, retryAfterSeconds: OUTAGE_RETRY_SECONDS });
}

function overloaded(): PantheonError {
  const detail = 'Too many questions wait for Redis.';
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
  // The quota is named when both refuse: it is what lasts.
  const code = isQuotaUsedUp ? 'quota_exceeded' : 'rate_limited';
  return { admitted: false, code, violated, retryAfterSeconds, limits: statesOf(answer, held), degraded: false };
}

function statesOf({ limits }: WindowsAnswer, held: HeldQuota | null): readonly LimitState[] {
  const quotaState = held?.quota.state() ?? null;
  return quotaState === null ? limits : [...limits, quotaState];
}
