/** The limits of a key, and their reported state. They are counted in `rate-limit/`. */

/** Admits at most `limit` units in *any* window of `windowSeconds`. */
export interface RateLimitRule {
  readonly name: string;
  readonly limit: number;
  readonly windowSeconds: number;
}

/** Fits 32-bit counters. */
export const RATE_LIMIT_MAX = 1_000_000_000;

/** Windows are kept in memory. Use a quota for longer times. */
export const WINDOW_SECONDS_MAX: number = 31 * 86_400;

export type QuotaPeriod = 'day' | 'month';

/** Admits at most `limit` units in a calendar day or month (UTC). */
export interface QuotaRule {
  readonly limit: number;
  readonly period: QuotaPeriod;
}

/** Whether for each of the other rules there is one here that is at least as strict. */
export function isRateLimitsWithin(rules: readonly RateLimitRule[], others: readonly RateLimitRule[]): boolean {
  return others.every((other) =>
    rules.some(({ limit, windowSeconds }) => limit <= other.limit && windowSeconds >= other.windowSeconds),
  );
}

const PERIOD_LENGTHS: Readonly<Record<QuotaPeriod, number>> = { day: 1, month: 2 };

/** The same for quotas: at most as much, in the same period or a longer one. Null: unlimited. */
export function isQuotaWithin(quota: QuotaRule | null, other: QuotaRule | null): boolean {
  if (other === null) return true;
  return quota !== null && quota.limit <= other.limit && PERIOD_LENGTHS[quota.period] >= PERIOD_LENGTHS[other.period];
}

/**
 * The state of one limit after the decision. `resetSeconds`: seconds until more becomes available, `t` of the RateLimit
 * field.
 */
export interface LimitState {
  readonly kind: 'rate' | 'quota';
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  readonly resetSeconds: number;
  readonly windowSeconds: number;
}
