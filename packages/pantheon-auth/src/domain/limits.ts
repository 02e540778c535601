/** What a limit is: the rules on a key, and the state that an answer reports. How they are counted is `rate-limit/`. */

/** Never more than `limit` in *any* window of `windowSeconds`. */
export interface RateLimitRule {
  readonly name: string;
  readonly limit: number;
  readonly windowSeconds: number;
}

/** Counters are 32 bits wide, and nobody means a larger limit. */
export const RATE_LIMIT_MAX = 1_000_000_000;

/** A window is kept in memory; what should be limited over a longer time is a quota. */
export const WINDOW_SECONDS_MAX: number = 31 * 86_400;

export type QuotaPeriod = 'day' | 'month';

/** Never more than `limit` in a calendar day or month (UTC). */
export interface QuotaRule {
  readonly limit: number;
  readonly period: QuotaPeriod;
}

/** Whether these admit nothing that the others refuse: for each of the others there is one that is at least as strict. */
export function isRateLimitsWithin(rules: readonly RateLimitRule[], others: readonly RateLimitRule[]): boolean {
  return others.every((other) =>
    rules.some(({ limit, windowSeconds }) => limit <= other.limit && windowSeconds >= other.windowSeconds),
  );
}

const PERIOD_LENGTHS: Readonly<Record<QuotaPeriod, number>> = { day: 1, month: 2 };

/** The same of quotas: as much or less, in as long a period or a longer one. Null: unlimited. */
export function isQuotaWithin(quota: QuotaRule | null, other: QuotaRule | null): boolean {
  if (other === null) return true;
  return quota !== null && quota.limit <= other.limit && PERIOD_LENGTHS[quota.period] >= PERIOD_LENGTHS[other.period];
}

/** One limit as it stands after the decision. `resetSeconds` is when more becomes available: `t` of the RateLimit field. */
export interface LimitState {
  readonly kind: 'rate' | 'quota';
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  readonly resetSeconds: number;
  readonly windowSeconds: number;
}
