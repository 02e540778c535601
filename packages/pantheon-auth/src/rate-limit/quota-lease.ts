/**
 * The quota of a key in one process: a small block is reserved durably in the database, then spent in memory. A crash
 * loses the unspent rest of a block, so a quota may admit less than its limit, but never more.
 */
import type { LimitState, QuotaRule } from '../domain/limits.ts';
import { type Clock, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { type Period, periodAt, type QuotaLease, type QuotaLedger, quotaState, secondsUntil } from './rate-limiter.ts';

/** A block is 1/100 of the quota, so a crash loses at most 1 %, and nothing for quotas up to 100. */
const BLOCKS_PER_QUOTA = 100;

/** The largest block: one durable write per 1 000 requests is rare enough. */
const BLOCK_UNITS_MAX = 1_000;

/** After this time a used-up quota is checked again, because another process may have returned units. */
export const ASK_AGAIN_MS: number = SECOND_MS;

/** How many units are reserved at once, unless one request needs more. */
export function blockUnits(limit: number): number {
  return Math.max(1, Math.min(Math.ceil(limit / BLOCKS_PER_QUOTA), BLOCK_UNITS_MAX));
}

/** `renew`: units must be reserved in the database first. */
export type QuotaStatus = 'enough' | 'used_up' | 'renew';

/** Units taken provisionally from a lease. */
export interface QuotaHold {
  readonly lease: QuotaLease;
  readonly units: number;
}

/** All quotas of one process. They share the ledger and the clock of the engine, which goes back only when an operator says so. */
export class QuotaLeases {
  readonly #ledger: QuotaLedger;
  readonly #clock: Clock;
  readonly #releases = new Set<Promise<void>>();
  #isClosed = false;

  constructor(ledger: QuotaLedger, clock: Clock) {
    this.#ledger = ledger;
    this.#clock = clock;
  }

  now(): Instant {
    return this.#clock.now();
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  async reserve(lease: QuotaLease, units: number): Promise<{ granted: number; left: number }> {
    if (this.#isClosed) throw new PantheonError('shutting_down');
    try {
      const { granted, left } = await this.#ledger.reserve(lease, units);
      invariant(Number.isSafeInteger(granted) && granted >= 0 && granted <= units, 'a lease is what was asked or less');
      return { granted, left: Math.max(0, left) };
    } catch (cause) {
      if (cause instanceof PantheonError) throw cause;
      throw new PantheonError('limiter_unavailable', { detail: 'The quota ledger failed.', cause });
    }
  }

  /** Returns units in the background. If that fails they are lost for this period, so less is admitted, never more. */
  release(lease: QuotaLease, units: number): Promise<void> {
    if (units === 0) return Promise.resolve();
    const released = this.#ledger
      .release(lease, units)
      .catch(() => undefined)
      .finally(() => this.#releases.delete(released));
    this.#releases.add(released);
    return released;
  }

  /** Stops reserving. */
  stop(): void {
    this.#isClosed = true;
  }

  /** Resolves when all returned units are stored. */
  async settled(): Promise<void> {
    await Promise.all(this.#releases);
  }
}

/** The quota of one key. */
export class LeasedQuota {
  readonly #leases: QuotaLeases;
  readonly #owner: { readonly tenantId: string; readonly keyId: string };
  #rule: QuotaRule;
  #period: Period;
  #lease: QuotaLease;
  /** Units reserved and not spent. */
  #units = 0;
  /** Unreserved units at the last reservation; null before the first. */
  #left: number | null = null;
  /** The monotonic time until which nothing is reserved again. */
  #askAgainAtMs = Number.NEGATIVE_INFINITY;
  #renewal: Promise<void> | null = null;
  #returning: Promise<void> = Promise.resolve();

  constructor(leases: QuotaLeases, owner: { readonly tenantId: string; readonly keyId: string }, rule: QuotaRule) {
    this.#leases = leases;
    this.#owner = owner;
    this.#rule = rule;
    this.#period = periodAt(rule.period, leases.now());
    this.#lease = this.#leaseNow();
  }

  /** Whether no reservation is in progress, so that the quota may be dropped. */
  get isSettled(): boolean {
    return this.#renewal === null;
  }

  /** Whether the quota has enough units for this cost. Begins a new lease when the period or the rule has changed. */
  status(rule: QuotaRule, cost: number): QuotaStatus {
    if (this.#hasTurned(rule)) {
      // A reservation in progress is awaited, so that its block is added to the right lease.
      if (this.#renewal !== null) return 'renew';
      this.#rule = rule;
      this.#period = periodAt(rule.period, this.#leases.now());
      this.#begin();
    }
    if (this.#left === null) return 'renew';
    if (cost <= this.#units) return 'enough';
    if (cost > rule.limit || this.#leases.monotonicMs() < this.#askAgainAtMs) return 'used_up';
    return 'renew';
  }

  /** Spends units after status `enough`. */
  spend(cost: number): void {
    invariant(cost <= this.#units, 'only reserved units are spent');
    this.#units -= cost;
  }

  /** Spends units after status `enough`, and records their lease. */
  hold(cost: number): QuotaHold {
    this.spend(cost);
    return { lease: this.#lease, units: cost };
  }

  /** Returns provisional units that were not needed. If their lease has ended, they are returned to the database. */
  giveBack({ lease, units }: QuotaHold): void {
    if (lease === this.#lease) this.#units += units;
    else void this.#leases.release(lease, units);
  }

  /** The state of the quota; null before the first reservation. */
  state(): LimitState | null {
    if (this.#left === null) return null;
    const { limit } = this.#rule;
    return quotaState(limit, Math.min(limit, this.#units + this.#left), this.#period, this.#leases.now());
  }

  /** Seconds until a used-up quota may admit again. */
  secondsUntilTurn(): number {
    return secondsUntil(this.#period.endsAt, this.#leases.now());
  }

  /** Reserves another block, shared by all waiting requests. */
  renew(cost: number): Promise<void> {
    this.#renewal ??= this.#reserve(cost).finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  /** Returns unspent units. The quota can be used again afterwards. */
  async release(): Promise<void> {
    while (this.#renewal !== null) await this.#renewal.catch(() => undefined);
    this.#begin();
    await this.#returning;
  }

  async #reserve(cost: number): Promise<void> {
    // Returned units must be stored first, so that the reservation finds them.
    await this.#returning;
    const { limit } = this.#lease;
    // A cost above the limit reserves nothing and only reads the state, as cost 0 does.
    const canFit = cost > 0 && cost <= limit;
    const units = canFit ? Math.min(limit, Math.max(blockUnits(limit), cost - this.#units)) : 0;
    const { granted, left } = await this.#leases.reserve(this.#lease, units);
    this.#units += granted;
    this.#left = left;
    if (granted < units) this.#askAgainAtMs = this.#leases.monotonicMs() + ASK_AGAIN_MS;
  }

  #hasTurned({ limit, period }: QuotaRule): boolean {
    const isOtherRule = limit !== this.#rule.limit || period !== this.#rule.period;
    return isOtherRule || this.#leases.now() >= this.#period.endsAt;
  }

  /** Begins an empty lease. Units reserved under another limit are returned, because they may exceed a smaller one. */
  #begin(): void {
    this.#returning = this.#leases.release(this.#lease, this.#units);
    this.#lease = this.#leaseNow();
    this.#units = 0;
    this.#left = null;
    this.#askAgainAtMs = Number.NEGATIVE_INFINITY;
  }

  #leaseNow(): QuotaLease {
    return { ...this.#owner, period: this.#period.name, limit: this.#rule.limit };
  }
}
