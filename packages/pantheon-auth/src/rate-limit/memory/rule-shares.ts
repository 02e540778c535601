/**
 * The share of each rate limit that one of several nodes may admit while it counts alone: because Redis does not
 * answer, or because another node without Redis runs beside it.
 */
import type { RateLimitRule } from '../../domain/limits.ts';
import type { LimitDecision } from '../rate-limiter.ts';
import { assertRule } from './sliding-window.ts';

export class RuleShares {
  /** Cached by list of rules, so that the limiter in memory gets the same array each time and need not compare. */
  #shares = new WeakMap<readonly RateLimitRule[], readonly RateLimitRule[]>();
  #sharedBy = 0;

  /** The rules divided by the number of nodes, at least 1, because otherwise a small limit would deny everybody. */
  of(rules: readonly RateLimitRule[], nodeCount: number): readonly RateLimitRule[] {
    const nodes = Math.max(1, Math.floor(nodeCount));
    if (nodes !== this.#sharedBy) {
      this.#sharedBy = nodes;
      this.#shares = new WeakMap();
    }
    let shares = this.#shares.get(rules);
    if (shares === undefined) {
      shares = rules.map((rule) => shareOf(rule, nodes));
      this.#shares.set(rules, shares);
    }
    return shares;
  }
}

/** A decision about shares as it is returned: with the full limits, and what remains of the share. */
export function answeredByShare(decision: LimitDecision, rules: readonly RateLimitRule[]): LimitDecision {
  const limits = decision.limits.map((state, nth) => ({ ...state, limit: rules[nth]?.limit ?? state.limit }));
  return { ...decision, limits, degraded: true };
}

function shareOf(rule: RateLimitRule, nodes: number): RateLimitRule {
  assertRule(rule);
  return { ...rule, limit: Math.min(rule.limit, Math.max(1, Math.floor(rule.limit / nodes))) };
}
