/**
 * The limiter of a node on PostgreSQL without Redis. While it is the only node it admits the whole of every rate limit.
 * While a second node runs beside it, during an update, each admits its share. Quotas are counted in the database and
 * are not divided.
 */
import type { RateLimitRule } from '../../domain/limits.ts';
import { isPromise } from '../../foundation/is-promise.ts';
import type { LimitDecision, LimiterStatus, LimitRequest, RateLimiter } from '../rate-limiter.ts';
import type { MemoryLimiter } from './memory-limiter.ts';
import { answeredByShare, RuleShares } from './rule-shares.ts';

export interface HandoverLimiterOptions {
  readonly memory: MemoryLimiter;
  /** The number of nodes that count alone now, including this one. */
  readonly nodeCount: () => number;
}

export class HandoverLimiter implements RateLimiter {
  readonly #memory: MemoryLimiter;
  readonly #nodeCount: () => number;
  readonly #shares = new RuleShares();
  #degradedDecisions = 0;

  constructor({ memory, nodeCount }: HandoverLimiterOptions) {
    this.#memory = memory;
    this.#nodeCount = nodeCount;
  }

  decide(request: LimitRequest): LimitDecision | Promise<LimitDecision> {
    const nodes = this.#nodeCount();
    const { rules } = request;
    if (nodes <= 1 || rules.length === 0) return this.#memory.decide(request);
    this.#degradedDecisions += 1;
    const decision = this.#memory.decide({ ...request, rules: this.#shares.of(rules, nodes) });
    return isPromise(decision) ? answeredLater(decision, rules) : answeredByShare(decision, rules);
  }

  status(): LimiterStatus {
    return { isDegraded: this.#nodeCount() > 1, degradedDecisions: this.#degradedDecisions };
  }

  close(): Promise<void> {
    return this.#memory.close();
  }
}

async function answeredLater(
  decision: Promise<LimitDecision>,
  rules: readonly RateLimitRule[],
): Promise<LimitDecision> {
  return answeredByShare(await decision, rules);
}
