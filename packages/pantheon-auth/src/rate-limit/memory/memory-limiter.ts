/**
 * The limiter of one process: every rate limit of a key and its quota, decided in one synchronous step. Nothing else can
 * run between the check and the count, which is why a denied request consumes nothing and no limit is passed (I8).
 */
import type { LimitState, RateLimitRule } from '../../domain/limits.ts';
import { type Clock, SECOND_MS } from '../../foundation/clock.ts';
import { invariant, PantheonError } from '../../foundation/errors.ts';
import { memoryOf } from '../../foundation/memory-size.ts';
import { LeasedQuota, type QuotaHold, QuotaLeases } from '../quota-lease.ts';
import {
  assertCost,
  type LimitDecision,
  type LimiterStatus,
  type LimitRequest,
  QUOTA_NAME,
  type QuotaLedger,
  type RateLimiter,
  SLOTS_COUNTED,
} from '../rate-limiter.ts';
import { SlidingWindow } from './sliding-window.ts';

/**
 * Keys counted at once. Only keys whose secret was proved get here, and an idle one is forgotten, so this is how many
 * keys are in use within one window.
 */
export const KEYS_MAX = 250_000;
/** What they take together. A key with one rule takes about 1 KB, and one with all that input allows 9 KB. */
export const COUNTERS_BYTES_MAX: number = 250 * 1_024 * 1_024;
/** The last part is kept for tenants that have less than this part: one tenant alone does not fill it. */
const KEPT_FOR_OTHERS = 1 / 4;
/** An account in its maps, and a quota with its lease. */
const ACCOUNT_BYTES = 700;
/** A ring of sub-slots, most of them small numbers. */
const WINDOW_BYTES: number = 300 + SLOTS_COUNTED * 8;

/** Keys looked at when one is added: more than one, so that idle keys leave faster than new ones come. */
const SWEEP_KEYS = 4;

/** Keys looked at when there is no room: about a millisecond, and so never all of them in one turn of the event loop. */
const SWEEP_KEYS_WHEN_FULL = 2_000;
/** How often that is done at most. All keys have been looked at within a few seconds. */
const SWEEP_WHEN_FULL_EVERY_MS = 20;
/** When a refused key may be tried again. */
const FULL_RETRY_SECONDS = 1;

/** A key without a request for this long gives the rest of its block back, so that other processes can spend it. */
export const LEASE_IDLE_MS: number = 60 * SECOND_MS;

/**
 * Renewals one request waits for. A block is 1 % of the quota or 1 000 units, so whoever needs more turns is behind
 * 200 000 others.
 */
const RENEWALS_MAX = 200;

export interface MemoryLimiterOptions {
  readonly clock: Clock;
  readonly quotaLedger: QuotaLedger;
  readonly keysMax?: number;
  readonly bytesMax?: number | undefined;
}

/** There is no other place that could be away. */
const ALWAYS_WHOLE: LimiterStatus = { isDegraded: false, degradedDecisions: 0 };

/** What is counted for one key. */
interface Account {
  /** The rules as the last request brought them: while it is the same array, nothing is compared. */
  rules: readonly RateLimitRule[];
  windows: readonly SlidingWindow[];
  quota: LeasedQuota | null;
  /** Units admitted here that the place where all nodes count together does not know yet. */
  pendingUnits: number;
  usedAtMs: number;
  readonly tenantId: string;
  /** What it was accounted with. */
  bytes: number;
}

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
  readonly #keysMax: number;
  readonly #bytesMax: number;
  #bytes = 0;
  readonly #bytesOfTenants = new Map<string, number>();
  readonly #accounts = new Map<string, Account>();
  readonly #originMs: number;
  #latestMs = 0;
  #sweeper = this.#accounts.entries();
  #sweepAgainAtMs = 0;

  constructor({ clock, quotaLedger, keysMax = KEYS_MAX, bytesMax = COUNTERS_BYTES_MAX }: MemoryLimiterOptions) {
    this.#clock = clock;
    this.#leases = new QuotaLeases(quotaLedger, clock);
    this.#keysMax = keysMax;
    this.#bytesMax = bytesMax;
    this.#originMs = Math.floor(clock.monotonicMs());
  }

  /** How many keys are counted now. */
  get keysTracked(): number {
    return this.#accounts.size;
  }

  /** What is accounted for them. */
  get bytesTracked(): number {
    return this.#bytes;
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
      const { quota } = this.#accountOf(request, this.#nowMs());
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
    for (const window of this.#accountIfRoom(request, nowMs)?.windows ?? []) {
      window.advance(nowMs);
      window.take(request.cost);
    }
  }

  /** Remembers what was admitted here and has to be told to where all nodes count together. */
  addDebt(keyId: string, units: number): void {
    const account = this.#accounts.get(keyId);
    if (account !== undefined) account.pendingUnits += units;
  }

  /** Takes what the key owes; `null` when it owes nothing. A debt is forgotten when it has left every window. */
  takePending(request: LimitRequest): PendingUnits | null {
    const units = this.#accounts.get(request.keyId)?.pendingUnits ?? 0;
    if (units === 0) return null;
    const nowMs = this.#nowMs();
    const account = this.#accountIfRoom(request, nowMs);
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
    await Promise.all(Array.from(this.#accounts.values(), ({ quota }) => quota?.release()));
    await this.#leases.settled();
  }

  /** The one step. `null`: the quota must be asked for first, and nothing was consumed. */
  #decideNow(request: LimitRequest): LimitDecision | null {
    const { cost } = request;
    const nowMs = this.#nowMs();
    const account = this.#accountOf(request, nowMs);
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
    for (const window of windows) window.take(cost);
    quota?.spend(cost);
    return { admitted: true, limits: statesOf(account, nowMs), degraded: false };
  }

  async #decideRenewed(request: LimitRequest): Promise<LimitDecision> {
    for (let renewals = 0; renewals < RENEWALS_MAX; renewals += 1) {
      await this.#accountOf(request, this.#nowMs()).quota?.renew(request.cost);
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

  #accountOf(request: LimitRequest, nowMs: number): Account {
    const { keyId, rules, quota } = request;
    const known = this.#accounts.get(keyId);
    const account = known?.rules === rules ? known : this.#accountWithRules(request, nowMs);
    if (quota === null) {
      if (account.quota !== null) void account.quota.release();
      account.quota = null;
    } else {
      account.quota ??= new LeasedQuota(this.#leases, { tenantId: request.tenantId, keyId }, quota);
    }
    account.usedAtMs = nowMs;
    return account;
  }

  /** For what is counted beside the decision, which is made elsewhere: the lack of room refuses nothing. */
  #accountIfRoom(request: LimitRequest, nowMs: number): Account | null {
    const known = this.#accounts.get(request.keyId);
    const growth = bytesOf(request.rules) - (known?.bytes ?? 0);
    if (known?.rules !== request.rules && growth > 0 && !this.#hasRoom(request, growth, nowMs)) return null;
    return this.#accountOf(request, nowMs);
  }

  /**
   * A key that is new here, or that was given other rules. Both need room: a key in use that was let grow without asking
   * would take that of other tenants.
   */
  #accountWithRules(request: LimitRequest, nowMs: number): Account {
    const { keyId, tenantId, rules } = request;
    const growth = bytesOf(rules) - (this.#accounts.get(keyId)?.bytes ?? 0);
    if (growth > 0 && !this.#hasRoom(request, growth, nowMs)) throw this.#isFull();
    // An idle one may have been forgotten while room was made.
    let account = this.#accounts.get(keyId);
    if (account === undefined) {
      account = { rules, windows: [], quota: null, pendingUnits: 0, usedAtMs: nowMs, tenantId, bytes: 0 };
      this.#accounts.set(keyId, account);
    }
    account.windows = windowsOf(rules, account.windows, nowMs);
    account.rules = rules;
    this.#charge(account, bytesOf(rules));
    return account;
  }

  /** A counter in use is never forgotten to make room: that would open its limit. The new key is refused instead. */
  #hasRoom({ tenantId, keyId }: LimitRequest, bytes: number, nowMs: number): boolean {
    this.#sweep(SWEEP_KEYS, nowMs);
    const keys = this.#accounts.has(keyId) ? 0 : 1;
    if (this.#hasRoomFor(tenantId, keys, bytes)) return true;
    if (nowMs < this.#sweepAgainAtMs) return false;
    this.#sweepAgainAtMs = nowMs + SWEEP_WHEN_FULL_EVERY_MS;
    this.#sweep(SWEEP_KEYS_WHEN_FULL, nowMs);
    return this.#hasRoomFor(tenantId, keys, bytes);
  }

  #hasRoomFor(tenantId: string, keys: number, bytes: number): boolean {
    if (this.#accounts.size + keys > this.#keysMax || this.#bytes + bytes > this.#bytesMax) return false;
    const kept = this.#bytesMax * KEPT_FOR_OTHERS;
    return this.#bytes + bytes <= this.#bytesMax - kept || (this.#bytesOfTenants.get(tenantId) ?? 0) + bytes <= kept;
  }

  /** From now on the account takes this. 0: it is gone. */
  #charge(account: Account, bytes: number): void {
    const { tenantId } = account;
    const change = bytes - account.bytes;
    account.bytes = bytes;
    this.#bytes += change;
    const ofTenant = (this.#bytesOfTenants.get(tenantId) ?? 0) + change;
    if (ofTenant === 0) this.#bytesOfTenants.delete(tenantId);
    else this.#bytesOfTenants.set(tenantId, ofTenant);
  }

  #isFull(): PantheonError {
    const detail = `The room to count keys in is used up: ${this.#accounts.size} of them are in use.`;
    return new PantheonError('limiter_unavailable', { detail, retryAfterSeconds: FULL_RETRY_SECONDS });
  }

  /** Looks at the next `keys` keys in turn and forgets the idle ones. */
  #sweep(keys: number, nowMs: number): void {
    for (let looked = 0; looked < keys; looked += 1) {
      const next = this.#sweeper.next();
      if (next.done === true) {
        this.#sweeper = this.#accounts.entries();
        continue;
      }
      const [keyId, account] = next.value;
      if (!isIdle(account, nowMs)) continue;
      this.#accounts.delete(keyId);
      this.#charge(account, 0);
      void account.quota?.release();
    }
  }
}

function bytesOf(rules: readonly RateLimitRule[]): number {
  return ACCOUNT_BYTES + memoryOf(rules) + rules.length * WINDOW_BYTES;
}

function tooManyRenewals(): PantheonError {
  return new PantheonError('limiter_unavailable', { detail: 'Too many requests wait for one quota.' });
}

/** Nothing would be different if the key had never been seen. */
function isIdle({ windows, quota, usedAtMs }: Account, nowMs: number): boolean {
  if (quota !== null && !(quota.isSettled && nowMs - usedAtMs > LEASE_IDLE_MS)) return false;
  return windows.every((window) => window.isEmpty(nowMs));
}

/** A rule of the same name and window goes on with its counts, whatever its limit is now; a new one learns from the others. */
function windowsOf(
  rules: readonly RateLimitRule[],
  before: readonly SlidingWindow[],
  nowMs: number,
): readonly SlidingWindow[] {
  return rules.map((rule) => {
    const same = before.find(
      (window) => window.rule.name === rule.name && window.rule.windowSeconds === rule.windowSeconds,
    );
    return same === undefined ? SlidingWindow.seededFrom(rule, before, nowMs) : same.underRule(rule);
  });
}

function statesOf({ windows, quota }: Account, nowMs: number): LimitState[] {
  const limits: LimitState[] = [];
  for (const window of windows) limits.push(window.state(nowMs));
  const quotaState = quota?.state() ?? null;
  if (quotaState !== null) limits.push(quotaState);
  return limits;
}
