/**
 * The port of limiters: all rate limits and the quota of one key, checked together. A denied request consumes nothing
 * (I8). Also the arithmetic of windows and periods that all implementations share.
 */
import type { LimitState, QuotaPeriod, QuotaRule, RateLimitRule } from '../domain/limits.ts';
import { type Clock, DAY_MS, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';

export interface LimitRequest {
  readonly tenantId: string;
  readonly keyId: string;
  /** When the key was created; it cannot have been used before. */
  readonly createdAt: Instant;
  readonly rules: readonly RateLimitRule[];
  readonly quota: QuotaRule | null;
  /** Units to consume, a whole number from 0 (check without consuming) to {@link COST_MAX}. */
  readonly cost: number;
}

export type LimitDecision =
  | { readonly admitted: true; readonly limits: readonly LimitState[]; readonly degraded: boolean }
  | {
      readonly admitted: false;
      readonly code: 'rate_limited' | 'quota_exceeded';
      /** Names of the exceeded limits. */
      readonly violated: readonly string[];
      readonly retryAfterSeconds: number;
      readonly limits: readonly LimitState[];
      readonly degraded: boolean;
    };

export interface RateLimiter {
  /**
   * Checks all limits and, if all admit the request, consumes from each, in one step. Returns a plain value if it need
   * not wait.
   */
  decide(request: LimitRequest): LimitDecision | Promise<LimitDecision>;
  /** The status for metrics. */
  status(): LimiterStatus;
  /** Returns reserved units that were not spent. */
  close(): Promise<void>;
}

export interface LimiterStatus {
  /**
   * Whether this node admits only its share of each rate limit, or nothing: Redis does not answer, or another node
   * without Redis may run beside it.
   */
  readonly isDegraded: boolean;
  /** The number of decisions made while degraded, or refused with 503, since the start. */
  readonly degradedDecisions: number;
}

/** Limits that all nodes count together, not opened yet. Made by `pantheon-auth/redis`. */
export interface SharedLimits {
  /**
   * @throws PantheonError `invalid_setting` when the server cannot be used. A server that does not answer is an outage,
   * not an error.
   */
  open(context: SharedLimitsContext): Promise<RateLimiter>;
}

export interface SharedLimitsContext {
  readonly clock: Clock;
  readonly quotaLedger: QuotaLedger;
  /** Memory for counters on this node, in bytes. */
  readonly countersBytesMax?: number | undefined;
  /** The number of nodes that share the limits, at least 1. The share of a node is the limit divided by it. */
  readonly nodeCount: () => number;
  /** True once per database: only then do limits start empty. Counters missing later have been lost. */
  readonly claimFirstUse: () => Promise<boolean>;
  readonly logger: {
    warn(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
}

/** The port for durable quota counts. Implemented in `storage/rows/`. */
export interface QuotaLedger {
  /**
   * Reserves up to `units` of the quota of this key in this period, in one durable statement that never passes `limit`.
   * Returns the number of reserved units (0 when used up) and of units left unreserved. With 0 units it only reads.
   */
  reserve(lease: QuotaLease, units: number): Promise<{ readonly granted: number; readonly left: number }>;
  /** Returns unspent units. */
  release(lease: QuotaLease, units: number): Promise<void>;
}

export interface QuotaLease {
  readonly tenantId: string;
  readonly keyId: string;
  /** `2026-11-22` or `2026-11`, UTC. */
  readonly period: string;
  readonly limit: number;
}

/** The largest cost of one request. */
export const COST_MAX = 1_000_000;

/** Up to this limit each use is remembered to the millisecond, so that whoever keeps exactly to it is never refused. */
export const EXACT_LIMIT_MAX = 128;

/** Above it, uses of one such part of the window are remembered together: they leave at most that much late, 0.5 %. */
export const PARTS_PER_WINDOW = 200;

/** What a window remembers at most: all of its parts, with the one that is filling. */
export const ENTRIES_PER_WINDOW_MAX: number = PARTS_PER_WINDOW + 1;

/** The name under which a quota is reported. No rate limit may have it. */
export const QUOTA_NAME = 'quota';

/** Refuses a cost that is not a whole number from 0 to {@link COST_MAX}; `NaN` would pass every comparison. */
export function assertCost(cost: number): void {
  if (Number.isInteger(cost) && cost >= 0 && cost <= COST_MAX) return;
  throw new PantheonError('invalid_request', { field: 'cost', detail: `a whole number from 0 to ${COST_MAX}` });
}

/**
 * The moment that stands for a use at `nowMs`, a whole number of milliseconds: itself, or under a large limit the last
 * millisecond of the part of the window in which it lies.
 */
export function entryEndMs(nowMs: number, { limit, windowSeconds }: RateLimitRule): number {
  if (limit <= EXACT_LIMIT_MAX) return nowMs;
  const partMs = partMsOf(windowSeconds);
  return Math.floor(nowMs / partMs) * partMs + partMs - 1;
}

/** How long a part is: a whole number of milliseconds, because a window is one of seconds. */
export function partMsOf(windowSeconds: number): number {
  return (windowSeconds * SECOND_MS) / PARTS_PER_WINDOW;
}

/** Whole seconds after which what ended at that moment is no longer counted. */
export function secondsUntilEntryLeft(endMs: number, windowSeconds: number, nowMs: number): number {
  return Math.max(0, Math.ceil((endMs + windowSeconds * SECOND_MS - nowMs) / SECOND_MS));
}

/** A calendar day or month, UTC. */
export interface Period {
  /** `2026-11-22` or `2026-11`. */
  readonly name: string;
  readonly startsAt: Instant;
  /** The first moment of the next period. */
  readonly endsAt: Instant;
}

/** The period that holds an instant. */
export function periodAt(period: QuotaPeriod, at: Instant): Period {
  const date = new Date(at);
  const iso = date.toISOString();
  if (period === 'day') {
    const startsAt = Math.floor(at / DAY_MS) * DAY_MS;
    return { name: iso.slice(0, iso.indexOf('T')), startsAt, endsAt: startsAt + DAY_MS };
  }
  const year = date.getUTCFullYear();
  const month = date.getUTCMonth();
  return {
    name: iso.slice(0, iso.indexOf('T') - 3),
    startsAt: Date.UTC(year, month),
    endsAt: Date.UTC(year, month + 1),
  };
}

/**
 * A rate limit as it is reported. `resetSeconds` never passes the window, although under a large limit a unit may come back
 * a second later: readers of the RateLimit fields hold a `t` above `w` for a mistake. Retry-After is not shortened.
 */
export function rateState(rule: RateLimitRule, remaining: number, resetSeconds: number): LimitState {
  const { name, limit, windowSeconds } = rule;
  return { kind: 'rate', name, limit, remaining, resetSeconds: Math.min(resetSeconds, windowSeconds), windowSeconds };
}

/** The reported state of a quota. More units become available when the period ends. */
export function quotaState(limit: number, remaining: number, period: Period, now: Instant): LimitState {
  const windowSeconds = (period.endsAt - period.startsAt) / SECOND_MS;
  const resetSeconds = Math.min(windowSeconds, secondsUntil(period.endsAt, now));
  return { kind: 'quota', name: QUOTA_NAME, limit, remaining, resetSeconds, windowSeconds };
}

/** Whole seconds until an instant. */
export function secondsUntil(at: Instant, now: Instant): number {
  return Math.max(0, Math.ceil((at - now) / SECOND_MS));
}
