/**
 * The port of the limits: all rate limits and the quota of one key, decided together. A denied request consumes nothing
 * (I8). The arithmetic of windows and periods that every implementation shares is here too.
 */
import type { LimitState, QuotaRule, RateLimitRule } from '../domain/limits.ts';

export interface LimitRequest {
  readonly tenantId: string;
  readonly keyId: string;
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
  /** Returns what was reserved and not spent. */
  close(): Promise<void>;
}

/** Where a quota is counted durably. Implemented over SQL. */
export interface QuotaLedger {
  /**
   * Reserves up to `units` of the quota of this key in this period, in one durable statement that never passes `limit`.
   * Answers how many it got (0 when used up) and how many are left unreserved after it.
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

/** A window is counted in this many sub-slots, so a unit comes back at most 1/60 of the window late. */
export const SLOTS_PER_WINDOW = 60;
