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

/** One limit as it stands after the decision. `resetSeconds` is when more becomes available: `t` of the RateLimit field. */
export interface LimitState {
  readonly kind: 'rate' | 'quota';
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  readonly resetSeconds: number;
  readonly windowSeconds: number;
}
