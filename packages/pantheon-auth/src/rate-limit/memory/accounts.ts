/**
 * The rate-limit counters of each key in a process, bounded in bytes so that no tenant is refused because of another.
 * `memory-limiter.ts` decides about requests.
 */
import type { RateLimitRule } from '../../domain/limits.ts';
import { SECOND_MS } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import { isFairShare } from '../../foundation/fair-share.ts';
import { memoryOf } from '../../foundation/memory-size.ts';
import { LeasedQuota, type QuotaLeases } from '../quota-lease.ts';
import type { LimitRequest } from '../rate-limiter.ts';
import { isOf, windowsOf } from './rule-windows.ts';
import { ENTRIES_AT_FIRST, type SlidingWindow } from './sliding-window.ts';

/** The memory of all accounts. A key with one rule takes about 1.4 kB, the largest 75 kB. */
export const COUNTERS_BYTES_MAX: number = 250 * 1_024 * 1_024;
/** The memory of an account in its maps, and of a quota with its lease. */
const ACCOUNT_BYTES = 700;
/** The memory of an account whose counts were dropped. */
const GIVEN_UP_BYTES = 250;
const WINDOW_BYTES = 300;
/** Two numbers, in arrays that are half used at worst. */
const ENTRY_BYTES = 40;

/** Accounts checked when one is added: more than one, so that idle ones are removed faster than new ones are added. */
const SWEEP_ACCOUNTS = 4;
/** Accounts checked when there is no room: about a millisecond. */
const SWEEP_ACCOUNTS_WHEN_FULL = 2_000;
/** The minimum interval of that. All accounts are checked within seconds. */
const SWEEP_WHEN_FULL_EVERY_MS = 20;
/** Looking at so many takes a tenth of a millisecond. */
const TENANTS_SEARCHED_MAX = 2_000;
/** `Retry-After` of a refused key. */
const FULL_RETRY_SECONDS = 1;

/** A key without requests for this long returns the rest of its quota block, so that other processes can use it. */
export const LEASE_IDLE_MS: number = 60 * SECOND_MS;

/** The counters of one key. */
export interface Account {
  /** The rules of the last request. While it is the same array, nothing is compared. */
  rules: readonly RateLimitRule[];
  windows: readonly SlidingWindow[];
  /** Windows of rules that the key had before. */
  former: readonly SlidingWindow[];
  quota: LeasedQuota | null;
  /** Units admitted here that have not been reported to Redis yet. */
  pendingUnits: number;
  usedAtMs: number;
  /**
   * Set when its counts were dropped to make room for other tenants: nothing is admitted until they would all have
   * expired.
   */
  givenUpUntilMs: number;
  readonly tenantId: string;
  /** Its estimated bytes. */
  bytes: number;
}

/** What the keys of one tenant take. */
interface TenantAccounts {
  bytes: number;
  /** Those whose counts were not dropped. */
  readonly counted: Set<Account>;
}

export class Accounts {
  readonly #leases: QuotaLeases;
  readonly #bytesMax: number;
  readonly #accounts = new Map<string, Account>();
  readonly #tenants = new Map<string, TenantAccounts>();
  /** The last tenant found to take the most; looked for again when it takes no more than its even share. */
  #largest: TenantAccounts | null = null;
  #tenantsInTurn: Iterator<TenantAccounts> = this.#tenants.values();
  #bytes = 0;
  #sweeper = this.#accounts.entries();
  #sweepAgainAtMs = 0;

  constructor({ leases, bytesMax }: { readonly leases: QuotaLeases; readonly bytesMax?: number | undefined }) {
    this.#leases = leases;
    this.#bytesMax = bytesMax ?? COUNTERS_BYTES_MAX;
  }

  /** The estimated bytes of all accounts. */
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
   * The account of the key, updated with the rules and the quota of the request.
   *
   * @throws PantheonError `limiter_unavailable` when its tenant has no room to count another key.
   */
  open(request: LimitRequest, nowMs: number): Account {
    const { keyId, rules, quota } = request;
    const known = this.#accounts.get(keyId);
    const isAsBefore = known !== undefined && (known.rules === rules || known.givenUpUntilMs > nowMs);
    const account = isAsBefore ? known : this.#withRules(request, nowMs);
    for (const window of account.windows) {
      // First without the entries that have left: an account whose windows are empty could be removed while room is made.
      window.advance(nowMs);
      if (window.isFull) this.#grow(account, window, request, nowMs);
    }
    if (quota === null) {
      if (account.quota !== null) void account.quota.release();
      account.quota = null;
    } else {
      account.quota ??= new LeasedQuota(this.#leases, { tenantId: request.tenantId, keyId }, quota);
    }
    account.usedAtMs = nowMs;
    return account;
  }

  /** For counting decisions made by Redis: without room it returns null and nothing is refused. */
  openIfRoom(request: LimitRequest, nowMs: number): Account | null {
    const known = this.#accounts.get(request.keyId);
    if (known !== undefined && known.givenUpUntilMs > nowMs) return null;
    if (known?.rules !== request.rules && !this.#hasRoom(request, growthOf(request, known), nowMs)) return null;
    return this.open(request, nowMs);
  }

  /**
   * Creates an account, or changes its rules. Both need room, because a growing account could otherwise take the room
   * of other tenants.
   */
  #withRules(request: LimitRequest, nowMs: number): Account {
    const { keyId, tenantId, rules } = request;
    if (!this.#hasRoom(request, growthOf(request, this.#accounts.get(keyId)), nowMs)) throw this.#full();
    // An idle account may have been removed while making room.
    let account = this.#accounts.get(keyId);
    if (account === undefined) {
      const nothing = { windows: [], former: [], quota: null, pendingUnits: 0, givenUpUntilMs: 0, bytes: 0 };
      account = { ...nothing, rules, tenantId, usedAtMs: nowMs };
      this.#accounts.set(keyId, account);
    }
    account.givenUpUntilMs = 0;
    Object.assign(account, windowsOf(rules, account, nowMs, ENTRIES_AT_FIRST));
    account.rules = rules;
    this.#charge(account, bytesOf(account));
    return account;
  }

  /** Without room the window keeps its number of entries and is less exact: it may admit later, but never more. */
  #grow(account: Account, window: SlidingWindow, request: LimitRequest, nowMs: number): void {
    if (!this.#hasRoom(request, window.entriesMax * ENTRY_BYTES, nowMs)) return;
    window.grow(window.entriesMax * 2);
    this.#charge(account, bytesOf(account));
  }

  /**
   * A counter in use is never removed to make room, because that would reset its limit. A tenant that has its share is
   * refused. A tenant with less than its share gets room from those with more.
   */
  #hasRoom({ tenantId }: LimitRequest, bytes: number, nowMs: number): boolean {
    if (bytes <= 0) return true;
    this.#sweep(SWEEP_ACCOUNTS, nowMs);
    if (this.#hasRoomFor(tenantId, bytes)) return true;
    if (nowMs >= this.#sweepAgainAtMs) {
      this.#sweepAgainAtMs = nowMs + SWEEP_WHEN_FULL_EVERY_MS;
      this.#sweep(SWEEP_ACCOUNTS_WHEN_FULL, nowMs);
      if (this.#hasRoomFor(tenantId, bytes)) return true;
    }
    const even = this.#evenShare(tenantId);
    return this.#share(tenantId) + bytes <= even && this.#takeFromOthers(even, bytes, nowMs);
  }

  #hasRoomFor(tenantId: string, bytes: number): boolean {
    return isFairShare({ all: this.#bytes + bytes, own: this.#share(tenantId) + bytes }, this.#bytesMax);
  }

  #share(tenantId: string): number {
    return this.#tenants.get(tenantId)?.bytes ?? 0;
  }

  /** The even share of each tenant; for a single tenant, half. */
  #evenShare(tenantId: string): number {
    const tenants = this.#tenants.size + (this.#tenants.has(tenantId) ? 0 : 1);
    return this.#bytesMax / Math.max(2, tenants);
  }

  /** Drops counts of tenants with more than an even share until so much is free. */
  #takeFromOthers(even: number, bytes: number, nowMs: number): boolean {
    while (this.#bytes + bytes > this.#bytesMax) {
      const [account] = this.#largestAbove(even)?.counted ?? [];
      if (account === undefined) return false;
      this.#giveUp(account, nowMs);
    }
    return true;
  }

  /** A tenant that takes much, if that is more than an even share and it has counts to drop; of few tenants the largest. */
  #largestAbove(even: number): TenantAccounts | null {
    const mayGive = (tenant: TenantAccounts): boolean => tenant.bytes > even && tenant.counted.size > 0;
    if (this.#largest !== null && mayGive(this.#largest)) return this.#largest;
    this.#largest = null;
    for (let looked = 0; looked < this.#tenants.size; looked += 1) {
      const tenant = this.#nextTenant();
      if (tenant !== null && mayGive(tenant) && tenant.bytes > (this.#largest?.bytes ?? 0)) this.#largest = tenant;
      // Of very many tenants, the largest of the next ones: the search of the next call begins behind them.
      if (this.#largest !== null && looked >= TENANTS_SEARCHED_MAX) break;
    }
    return this.#largest;
  }

  /** All tenants in turn, again and again. Null: there is none. */
  #nextTenant(): TenantAccounts | null {
    let next = this.#tenantsInTurn.next();
    if (next.done === true) {
      this.#tenantsInTurn = this.#tenants.values();
      next = this.#tenantsInTurn.next();
    }
    return next.done === true ? null : next.value;
  }

  /** Dropped counts must not restart at zero, so the key is refused until they would have expired. */
  #giveUp(account: Account, nowMs: number): void {
    const endsMs = [...account.windows, ...account.former].map((window) => window.emptyAtMs(nowMs));
    account.givenUpUntilMs = Math.max(nowMs, ...endsMs);
    account.rules = NO_RULES;
    account.windows = [];
    account.former = [];
    void account.quota?.release();
    account.quota = null;
    this.#charge(account, GIVEN_UP_BYTES);
  }

  /** Sets the bytes of the account. 0: removed. */
  #charge(account: Account, bytes: number): void {
    const { tenantId } = account;
    const tenant = this.#tenants.get(tenantId) ?? { bytes: 0, counted: new Set() };
    tenant.bytes += bytes - account.bytes;
    this.#bytes += bytes - account.bytes;
    account.bytes = bytes;
    if (bytes > GIVEN_UP_BYTES) tenant.counted.add(account);
    else tenant.counted.delete(account);
    if (tenant.bytes === 0) this.#tenants.delete(tenantId);
    else this.#tenants.set(tenantId, tenant);
  }

  #full(): PantheonError {
    const detail = `The room to count keys in is used up: ${this.#accounts.size} of them are in use.`;
    return new PantheonError('limiter_unavailable', { detail, retryAfterSeconds: FULL_RETRY_SECONDS });
  }

  /** Checks the next accounts in turn and removes idle ones. */
  #sweep(accounts: number, nowMs: number): void {
    for (let looked = 0; looked < accounts; looked += 1) this.#lookAtNext(nowMs);
  }

  /** The next account in turn; null: it was idle and was removed, or the turn starts over. */
  #lookAtNext(nowMs: number): Account | null {
    const next = this.#sweeper.next();
    if (next.done === true) {
      this.#sweeper = this.#accounts.entries();
      return null;
    }
    const [keyId, account] = next.value;
    if (!isIdle(account, nowMs)) return account;
    this.#accounts.delete(keyId);
    this.#charge(account, 0);
    void account.quota?.release();
    return null;
  }
}

/** Not the rules of any request, so the next ones are compared. */
const NO_RULES: readonly RateLimitRule[] = [];

/** The estimated bytes of an account. */
function bytesOf({ rules, windows, former }: Account): number {
  const ofWindows = [...windows, ...former].reduce(
    (sum, { entriesMax }) => sum + WINDOW_BYTES + entriesMax * ENTRY_BYTES,
    0,
  );
  return ACCOUNT_BYTES + memoryOf(rules) + ofWindows;
}

/** How much more it may take under the rules of a request: at most, since windows that are empty by then are not kept. */
function growthOf({ rules }: LimitRequest, known: Account | undefined): number {
  const before = known === undefined ? [] : [...known.windows, ...known.former];
  const added = rules.filter((rule) => !before.some((window) => isOf(rule, window))).length;
  const kept = before.reduce((sum, { entriesMax }) => sum + WINDOW_BYTES + entriesMax * ENTRY_BYTES, 0);
  const after = ACCOUNT_BYTES + memoryOf(rules) + kept + added * (WINDOW_BYTES + ENTRIES_AT_FIRST * ENTRY_BYTES);
  return after - (known?.bytes ?? 0);
}

/** @throws PantheonError `limiter_unavailable` while the counts of the key are not known. */
export function assertCounted({ givenUpUntilMs }: Account, nowMs: number): void {
  if (givenUpUntilMs <= nowMs) return;
  const detail = 'What this key used was not kept: its tenant took more than its share of the room to count in.';
  const retryAfterSeconds = Math.ceil((givenUpUntilMs - nowMs) / SECOND_MS);
  throw new PantheonError('limiter_unavailable', { detail, retryAfterSeconds });
}

/** Whether removing the account would change nothing. */
function isIdle({ windows, former, quota, usedAtMs, givenUpUntilMs }: Account, nowMs: number): boolean {
  if (givenUpUntilMs > nowMs) return false;
  if (quota !== null && !(quota.isSettled && nowMs - usedAtMs > LEASE_IDLE_MS)) return false;
  return windows.every((window) => window.isEmpty(nowMs)) && former.every((window) => window.isEmpty(nowMs));
}
