/**
 * What a process counts for each key, and the room that it takes: bounded in keys and in bytes, so that no tenant fills it
 * alone. What a request may use is decided in `memory-limiter.ts`.
 */
import type { RateLimitRule } from '../../domain/limits.ts';
import { SECOND_MS } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import { isFairShare } from '../../foundation/fair-share.ts';
import { memoryOf } from '../../foundation/memory-size.ts';
import { LeasedQuota, type QuotaLeases } from '../quota-lease.ts';
import { type LimitRequest, SLOTS_COUNTED } from '../rate-limiter.ts';
import { SlidingWindow } from './sliding-window.ts';

/**
 * Keys counted at once. Only keys whose secret was proved get here, and an idle one is forgotten, so this is how many
 * keys are in use within one window.
 */
export const KEYS_MAX = 250_000;
/** What they take together. A key with one rule takes about 1 KB, and one with all that input allows 9 KB. */
export const COUNTERS_BYTES_MAX: number = 250 * 1_024 * 1_024;
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

/** What is counted for one key. */
export interface Account {
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

/** What the accounts of one tenant take. */
interface Share {
  readonly keys: number;
  readonly bytes: number;
}

const NO_SHARE: Share = { keys: 0, bytes: 0 };

export class Accounts {
  readonly #leases: QuotaLeases;
  readonly #keysMax: number;
  readonly #bytesMax: number;
  readonly #accounts = new Map<string, Account>();
  readonly #tenants = new Map<string, Share>();
  #bytes = 0;
  #sweeper = this.#accounts.entries();
  #sweepAgainAtMs = 0;

  constructor(deps: {
    readonly leases: QuotaLeases;
    readonly keysMax?: number | undefined;
    readonly bytesMax?: number | undefined;
  }) {
    this.#leases = deps.leases;
    this.#keysMax = deps.keysMax ?? KEYS_MAX;
    this.#bytesMax = deps.bytesMax ?? COUNTERS_BYTES_MAX;
  }

  get size(): number {
    return this.#accounts.size;
  }

  /** What is accounted for all of them. */
  get bytes(): number {
    return this.#bytes;
  }

  peek(keyId: string): Account | undefined {
    return this.#accounts.get(keyId);
  }

  [Symbol.iterator](): Iterator<Account> {
    return this.#accounts.values();
  }

  /**
   * The account of the key of a request, with the rules and the quota that the request brings.
   *
   * @throws PantheonError `limiter_unavailable` when there is no room to count another key.
   */
  open(request: LimitRequest, nowMs: number): Account {
    const { keyId, rules, quota } = request;
    const known = this.#accounts.get(keyId);
    const account = known?.rules === rules ? known : this.#withRules(request, nowMs);
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
  openIfRoom(request: LimitRequest, nowMs: number): Account | null {
    const known = this.#accounts.get(request.keyId);
    const growth = bytesOf(request.rules) - (known?.bytes ?? 0);
    if (known?.rules !== request.rules && growth > 0 && !this.#hasRoom(request, growth, nowMs)) return null;
    return this.open(request, nowMs);
  }

  /**
   * A key that is new here, or that was given other rules. Both need room: a key in use that was let grow without asking
   * would take that of other tenants.
   */
  #withRules(request: LimitRequest, nowMs: number): Account {
    const { keyId, tenantId, rules } = request;
    const growth = bytesOf(rules) - (this.#accounts.get(keyId)?.bytes ?? 0);
    if (growth > 0 && !this.#hasRoom(request, growth, nowMs)) throw this.#full();
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
    const tenant = this.#tenants.get(tenantId) ?? NO_SHARE;
    return (
      isFairShare({ all: this.#accounts.size + keys, own: tenant.keys + keys }, this.#keysMax) &&
      isFairShare({ all: this.#bytes + bytes, own: tenant.bytes + bytes }, this.#bytesMax)
    );
  }

  /** From now on the account takes this. 0: it is gone. */
  #charge(account: Account, bytes: number): void {
    const { keys, bytes: before } = this.#tenants.get(account.tenantId) ?? NO_SHARE;
    const change = bytes - account.bytes;
    const share = {
      keys: keys + Number(bytes > 0) - Number(account.bytes > 0),
      bytes: before + change,
    };
    account.bytes = bytes;
    this.#bytes += change;
    if (share.keys === 0) this.#tenants.delete(account.tenantId);
    else this.#tenants.set(account.tenantId, share);
  }

  #full(): PantheonError {
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
