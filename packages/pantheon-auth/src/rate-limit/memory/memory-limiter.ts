/**
 * The limiter of one process: every rate limit of a key and its quota, decided in one synchronous step. Nothing else can
 * run between the check and the count, which is why a denied request consumes nothing and no limit is passed (I8).
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
 * Renewals one request waits for. A block is 1 % of the quota or 1 000 units, so whoever needs more turns is behind
 * 200 000 others.
 */
const RENEWALS_MAX = 200;

export interface MemoryLimiterOptions {
  readonly clock: Clock;
  readonly quotaLedger: QuotaLedger;
  readonly bytesMax?: number | undefined;
}

/** There is no other place that could be away. */
const ALWAYS_WHOLE: LimiterStatus = { isDegraded: false, degradedDecisions: 0 };

/** The quota of a key, and what was taken of it; `hold` is `null` when it is used up. */
export interface HeldQuota {
  readonly quota: LeasedQuota;
  readonly hold: QuotaHold | null;
}

/** What a key owes: in all, and of that what each rule still counts. */
export interface PendingUnits {
  readonly units: number;
  readonly perRule: readonly number[];
}

/**
 * Counts in memory. Windows follow the monotonic clock, so a wall clock set back neither opens nor prolongs them.
 *
 * `decide` throws `limiter_unavailable` when there is no room to count another key, and rejects with what the quota
 * ledger threw; nothing is consumed then.
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

  /** What is accounted for the keys that are counted now. */
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

  /** Takes the cost from the quota alone, before the windows are asked elsewhere. */
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

  /** Counts in the windows what was admitted elsewhere. Where there is no room for another key, nothing is counted. */
  mirror(request: LimitRequest): void {
    const nowMs = this.#nowMs();
    for (const window of this.#accounts.openIfRoom(request, nowMs)?.windows ?? []) {
      window.advance(nowMs);
      window.take(request.cost, nowMs);
    }
  }

  /** Remembers what was admitted here and has to be told to where all nodes count together. */
  addDebt(keyId: string, units: number): void {
    const account = this.#accounts.peek(keyId);
    if (account !== undefined) account.pendingUnits += units;
  }

  /** Takes what the key owes; `null` when it owes nothing. A debt is forgotten when it has left every window. */
  takePending(request: LimitRequest): PendingUnits | null {
    const units = this.#accounts.peek(request.keyId)?.pendingUnits ?? 0;
    if (units === 0) return null;
    const nowMs = this.#nowMs();
    const account = this.#accounts.openIfRoom(request, nowMs);
    // It is owed on, until there is room for the rules by which it would be told.
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

  /** The one step. `null`: the quota must be asked for first, and nothing was consumed. */
  #decideNow(request: LimitRequest): LimitDecision | null {
    const { cost } = request;
    const nowMs = this.#nowMs();
    const account = this.#accounts.open(request, nowMs);
    assertCounted(account, nowMs);
    const { windows, quota } = account;

    // 1. Ask every limit.
    let fits = true;
    for (const window of windows) {
      window.advance(nowMs);
      if (cost > window.remaining) fits = false;
    }
    if (quota !== null && request.quota !== null) {
      const status = quota.status(request.quota, cost);
      // What the rates refuse costs no question to the ledger.
      if (status === 'renew' && fits) return null;
      if (status === 'used_up' || !fits) return this.#denied(account, cost, nowMs, status === 'used_up');
    }
    if (!fits) return this.#denied(account, cost, nowMs, false);

    // 2. All agree: count it everywhere.
    for (const window of windows) window.take(cost, nowMs);
    quota?.spend(cost);
    return { admitted: true, limits: statesOf(account, nowMs), degraded: false };
  }

  async #decideRenewed(request: LimitRequest): Promise<LimitDecision> {
    for (let renewals = 0; renewals < RENEWALS_MAX; renewals += 1) {
      await this.#accounts.open(request, this.#nowMs()).quota?.renew(request.cost);
      // Others waited for the same block, so everything is asked again.
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
    // The quota is named when both refuse: it is what lasts.
    const code = isQuotaUsedUp ? 'quota_exceeded' : 'rate_limited';
    const limits = statesOf(account, nowMs);
    return { admitted: false, code, violated, retryAfterSeconds, limits, degraded: false };
  }

  /** Whole milliseconds since we began, never fewer than before: slots are then exact, small and not negative. */
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
