/**
 * The limiter of one process: all rate limits and the quota of a key, checked and counted in one synchronous step.
 * Nothing can run in between, so a denied request consumes nothing and no limit is exceeded (I8).
 */
import type { LimitState } from '../../domain/limits.ts';
import type { Clock } from '../../foundation/clock.ts';
import { invariant, PantheonError } from '../../foundation/errors.ts';
import { type LeasedQuota, type QuotaHold, QuotaLeases } from '../quota-lease.ts';
import {
  assertCost,
  type LimitDecision,
  type LimiterStatus,
  type LimitRequest,
  QUOTA_NAME,
  type QuotaLedger,
  type RateLimiter,
} from '../rate-limiter.ts';
import { type Account, Accounts, assertCounted } from './accounts.ts';

/**
 * The most reservations that one request waits for. A block is 1 % of the quota, at most 1 000 units, so a request that
 * waits longer has up to 200 000 others before it.
 */
const RENEWALS_MAX = 200;

export interface MemoryLimiterOptions {
  readonly clock: Clock;
  readonly quotaLedger: QuotaLedger;
  readonly bytesMax?: number | undefined;
}

/** A limiter in memory is never degraded. */
const ALWAYS_WHOLE: LimiterStatus = { isDegraded: false, degradedDecisions: 0 };

/** The quota of a key, with provisionally taken units; `hold` is null when it is used up. */
export interface HeldQuota {
  readonly quota: LeasedQuota;
  readonly hold: QuotaHold | null;
}

/** Units of a key to report to Redis: in total, and per rule as far as they still count. */
export interface PendingUnits {
  readonly units: number;
  readonly perRule: readonly number[];
}

/**
 * Counts in memory. Windows use the monotonic clock, so setting the wall clock has no effect on them.
 *
 * `decide` throws `limiter_unavailable` when there is no room to count another key, and rejects with errors of the
 * quota ledger; nothing is consumed then.
 */
export class MemoryLimiter implements RateLimiter {
  readonly #clock: Clock;
  readonly #leases: QuotaLeases;
  readonly #accounts: Accounts;
  readonly #originMs: number;
  #latestMs = 0;

  constructor({ clock, quotaLedger, bytesMax }: MemoryLimiterOptions) {
    this.#clock = clock;
    this.#leases = new QuotaLeases(quotaLedger, clock);
    this.#accounts = new Accounts({ leases: this.#leases, bytesMax });
    this.#originMs = Math.floor(clock.monotonicMs());
  }

  /** The estimated bytes of the counters. */
  get bytesTracked(): number {
    return this.#accounts.bytes;
  }

  decide(request: LimitRequest): LimitDecision | Promise<LimitDecision> {
    assertCost(request.cost);
    return this.#decideNow(request) ?? this.#decideRenewed(request);
  }

  status(): LimiterStatus {
    return ALWAYS_WHOLE;
  }

  /** Takes the cost from the quota alone, before Redis is asked about the rate limits. */
  async holdQuota(request: LimitRequest): Promise<HeldQuota | null> {
    assertCost(request.cost);
    const { quota: rule, cost } = request;
    if (rule === null) return null;
    for (let renewals = 0; renewals < RENEWALS_MAX; renewals += 1) {
      const { quota } = this.#accounts.open(request, this.#nowMs());
      invariant(quota !== null, 'an account has the quota of its request');
      const status = quota.status(rule, cost);
      if (status === 'enough') return { quota, hold: quota.hold(cost) };
      if (status === 'used_up') return { quota, hold: null };
      await quota.renew(cost);
    }
    throw tooManyRenewals();
  }

  /** Counts in memory what Redis admitted. Without room for another key nothing is counted. */
  mirror(request: LimitRequest): void {
    const nowMs = this.#nowMs();
    for (const window of this.#accounts.openIfRoom(request, nowMs)?.windows ?? []) {
      window.advance(nowMs);
      window.take(request.cost, nowMs);
    }
  }

  /** Records units admitted here that must be reported to Redis. */
  addDebt(keyId: string, units: number): void {
    const account = this.#accounts.peek(keyId);
    if (account !== undefined) account.pendingUnits += units;
  }

  /** Takes the units of a key to report; null: none. Units outside of every window are dropped. */
  takePending(request: LimitRequest): PendingUnits | null {
    const units = this.#accounts.peek(request.keyId)?.pendingUnits ?? 0;
    if (units === 0) return null;
    const nowMs = this.#nowMs();
    const account = this.#accounts.openIfRoom(request, nowMs);
    // Kept until there is room for the rules that it is reported with.
    if (account === null) return null;
    account.pendingUnits = 0;
    const perRule = account.windows.map((window) => {
      window.advance(nowMs);
      return Math.min(units, window.counted);
    });
    return { units, perRule };
  }

  async close(): Promise<void> {
    this.#leases.stop();
    await Promise.all(Array.from(this.#accounts, ({ quota }) => quota?.release()));
    await this.#leases.settled();
  }

  /** The synchronous step. Null: units of the quota must be reserved first; nothing was consumed. */
  #decideNow(request: LimitRequest): LimitDecision | null {
    const { cost } = request;
    const nowMs = this.#nowMs();
    const account = this.#accounts.open(request, nowMs);
    assertCounted(account, nowMs);
    const { windows, quota } = account;

    // 1. Check every limit.
    let fits = true;
    for (const window of windows) {
      window.advance(nowMs);
      if (cost > window.remaining) fits = false;
    }
    if (quota !== null && request.quota !== null) {
      const status = quota.status(request.quota, cost);
      // A request denied by a rate limit reserves no quota.
      if (status === 'renew' && fits) return null;
      if (status === 'used_up' || !fits) return this.#denied(account, cost, nowMs, status === 'used_up');
    }
    if (!fits) return this.#denied(account, cost, nowMs, false);

    // 2. All admit: count in each.
    for (const window of windows) window.take(cost, nowMs);
    quota?.spend(cost);
    return { admitted: true, limits: statesOf(account, nowMs), degraded: false };
  }

  async #decideRenewed(request: LimitRequest): Promise<LimitDecision> {
    for (let renewals = 0; renewals < RENEWALS_MAX; renewals += 1) {
      await this.#accounts.open(request, this.#nowMs()).quota?.renew(request.cost);
      // Other requests waited for the same block, so everything is checked again.
      const decision = this.#decideNow(request);
      if (decision !== null) return decision;
    }
    throw tooManyRenewals();
  }

  #denied(account: Account, cost: number, nowMs: number, isQuotaUsedUp: boolean): LimitDecision {
    const violated: string[] = [];
    let retryAfterSeconds = 1;
    for (const window of account.windows) {
      if (cost <= window.remaining) continue;
      violated.push(window.rule.name);
      retryAfterSeconds = Math.max(retryAfterSeconds, window.secondsUntilFits(cost, nowMs));
    }
    if (isQuotaUsedUp && account.quota !== null) {
      violated.push(QUOTA_NAME);
      retryAfterSeconds = Math.max(retryAfterSeconds, account.quota.secondsUntilTurn());
    }
    // If both are exceeded the quota is reported, because it lasts longer.
    const code = isQuotaUsedUp ? 'quota_exceeded' : 'rate_limited';
    const limits = statesOf(account, nowMs);
    return { admitted: false, code, violated, retryAfterSeconds, limits, degraded: false };
  }

  /** Whole milliseconds since the start, never decreasing, so that times are exact, small and not negative. */
  #nowMs(): number {
    this.#latestMs = Math.max(this.#latestMs, Math.floor(this.#clock.monotonicMs()) - this.#originMs);
    return this.#latestMs;
  }
}

function tooManyRenewals(): PantheonError {
  return new PantheonError('limiter_unavailable', { detail: 'Too many requests wait for one quota.' });
}

function statesOf({ windows, quota }: Account, nowMs: number): LimitState[] {
  const limits: LimitState[] = [];
  for (const window of windows) limits.push(window.state(nowMs));
  const quotaState = quota?.state() ?? null;
  if (quotaState !== null) limits.push(quotaState);
  return limits;
}
