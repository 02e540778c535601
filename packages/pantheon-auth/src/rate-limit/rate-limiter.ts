/**
 * The port of the limits: all rate limits and the quota of one key, decided together. A denied request consumes nothing
 * (I8). The arithmetic of windows and periods that every implementation shares is here too.
 */
import type { LimitState, QuotaPeriod, QuotaRule, RateLimitRule } from '../domain/limits.ts';
import { type Clock, DAY_MS, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';

export interface LimitRequest {
  readonly tenantId: string;
  readonly keyId: string;
  /** When the key was made: before that it can have used nothing. */
  readonly createdAt: Instant;
  readonly rules: readonly RateLimitRule[];
  readonly quota: QuotaRule | null;
  /** Units to consume, a whole number from 0 (ask without consuming) to {@link COST_MAX}. */
  readonly cost: number;
}

export type LimitDecision =
  | { readonly admitted: true; readonly limits: readonly LimitState[]; readonly degraded: boolean }
  | {
      readonly admitted: false;
      readonly code: 'rate_limited' | 'quota_exceeded';
      /** Names of the limits that stood in the way. */
      readonly violated: readonly string[];
      readonly retryAfterSeconds: number;
      readonly limits: readonly LimitState[];
      readonly degraded: boolean;
    };

export interface RateLimiter {
  /**
   * Decides and, when it admits, consumes: one step, all or nothing. Answers at once where it can, so that the warm
   * path does not wait.
   */
  decide(request: LimitRequest): LimitDecision | Promise<LimitDecision>;
  /** For the operator: whether limits are counted as they should be. */
  status(): LimiterStatus;
  /** Returns what was reserved and not spent. */
  close(): Promise<void>;
}

export interface LimiterStatus {
  /**
   * Whether this node admits no more than its share of each rate limit, or nothing: the place where all nodes count
   * together does not answer, or another node that counts for itself may run beside it.
   */
  readonly isDegraded: boolean;
  /** Decisions made, or refused with a 503, in that state since the start. */
  readonly degradedDecisions: number;
}

/** Limits that all nodes count together, in a place that is not open yet: `pantheon-auth/redis` makes one. */
export interface SharedLimits {
  /** @throws PantheonError `invalid_setting` when that place can never serve. One that is away for now is an outage. */
  open(context: SharedLimitsContext): Promise<RateLimiter>;
}

export interface SharedLimitsContext {
  readonly clock: Clock;
  readonly quotaLedger: QuotaLedger;
  /** Memory that counting on this node may take. */
  readonly countersBytesMax?: number | undefined;
  /** How many nodes share the limits now, at least 1: what one may admit alone is the limit divided by it. */
  readonly nodeCount: () => number;
  /** True once in the life of a database: only then do limits start empty. Whatever is missing later was lost. */
  readonly claimFirstUse: () => Promise<boolean>;
  readonly logger: {
    warn(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
}

/** Where a quota is counted durably. Implemented over SQL. */
export interface QuotaLedger {
  /**
   * Reserves up to `units` of the quota of this key in this period, in one durable statement that never passes `limit`.
   * Answers how many it got (0 when used up) and how many are left unreserved after it. 0 units only asks.
   */
  reserve(lease: QuotaLease, units: number): Promise<{ readonly granted: number; readonly left: number }>;
  /** Gives unspent units back. */
  release(lease: QuotaLease, units: number): Promise<void>;
}

export interface QuotaLease {
  readonly tenantId: string;
  readonly keyId: string;
  /** `2026-11-22` or `2026-11`, UTC. */
  readonly period: string;
  readonly limit: number;
}

/** One request may weigh this much at most; a larger cost is a mistake of the caller. */
export const COST_MAX = 1_000_000;

/** Up to this limit each use is remembered to the millisecond, so that whoever keeps exactly to it is never refused. */
export const EXACT_LIMIT_MAX = 128;

/** Above it, uses of one such part of the window are remembered together: they leave at most that much late, 0.5 %. */
export const PARTS_PER_WINDOW = 200;

/** What a window remembers at most: all of its parts, with the one that is filling. */
export const ENTRIES_PER_WINDOW_MAX: number = PARTS_PER_WINDOW + 1;

/** The name under which a quota is reported. No rate rule may bear it. */
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

/** A quota as it is reported: more becomes available when the period ends. */
export function quotaState(limit: number, remaining: number, period: Period, now: Instant): LimitState {
  const windowSeconds = (period.endsAt - period.startsAt) / SECOND_MS;
  const resetSeconds = Math.min(windowSeconds, secondsUntil(period.endsAt, now));
  return { kind: 'quota', name: QUOTA_NAME, limit, remaining, resetSeconds, windowSeconds };
}

/** Whole seconds to wait until an instant has come. */
export function secondsUntil(at: Instant, now: Instant): number {
  return Math.max(0, Math.ceil((at - now) / SECOND_MS));
}
