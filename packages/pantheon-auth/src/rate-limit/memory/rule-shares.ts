/**
 * What one of several nodes may admit of each rate limit while it counts for itself: because the place where all nodes
 * count together is away, or because another node that counts for itself runs beside it.
 */
import type { RateLimitRule } from '../../domain/limits.ts';
import type { LimitDecision } from '../rate-limiter.ts';
import { assertRule } from './sliding-window.ts';

export class RuleShares {
  /** The same list of rules gives the same list of shares, so that the limiter in memory has nothing to compare. */
  #shares = new WeakMap<readonly RateLimitRule[], readonly RateLimitRule[]>();
  #sharedBy = 0;

  /** The rules divided by the number of nodes. At least 1, or a small limit among many nodes would refuse everybody. */
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

/** A decision about shares as it is answered: the policy is shown as it is, what remains is what remains of the share. */
export function answeredByShare(decision: LimitDecision, rules: readonly RateLimitRule[]): LimitDecision {
  const limits = decision.limits.map((state, nth) => ({ ...state, limit: rules[nth]?.limit ?? state.limit }));
  return { ...decision, limits, degraded: true };
}

function shareOf(rule: RateLimitRule, nodes: number): RateLimitRule {
  assertRule(rule);
  return { ...rule, limit: Math.min(rule.limit, Math.max(1, Math.floor(rule.limit / nodes))) };
}
