/**
 * The quota of a key as one process spends it: a small block is reserved durably in the ledger, then spent in memory. A
 * crash loses what was reserved and not spent, so the quota may grant less than its limit, and never more.
 */
import type { LimitState, QuotaRule } from '../domain/limits.ts';
import { type Clock, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { type Period, periodAt, type QuotaLease, type QuotaLedger, quotaState, secondsUntil } from './rate-limiter.ts';

/** A block is this part of the quota: a crash costs the holder at most 1 %, and a quota up to 100 loses nothing. */
const BLOCKS_PER_QUOTA = 100;

/** No block is larger: one durable write per 1 000 requests is already too few to notice. */
const BLOCK_UNITS_MAX = 1_000;

/** A quota found used up is asked for again after this: another process may have given units back. */
export const ASK_AGAIN_MS: number = SECOND_MS;

/** How many units are reserved at once, unless one request needs more. */
export function blockUnits(limit: number): number {
  return Math.max(1, Math.min(Math.ceil(limit / BLOCKS_PER_QUOTA), BLOCK_UNITS_MAX));
}

/** `renew`: unknown until the ledger was asked. */
export type QuotaStatus = 'enough' | 'used_up' | 'renew';

/** Units taken from a lease while it is not yet known whether they are needed. */
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

  /** Gives units back in the background. When that fails they are lost to this period: less is granted, never more. */
  release(lease: QuotaLease, units: number): Promise<void> {
    if (units === 0) return Promise.resolve();
    const released = this.#ledger
      .release(lease, units)
      .catch(() => undefined)
      .finally(() => this.#releases.delete(released));
    this.#releases.add(released);
    return released;
  }

  /** From here on nothing is reserved. */
  stop(): void {
    this.#isClosed = true;
  }

  /** Resolves when all that was given back has arrived. */
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
  /** Reserved and not spent. */
  #units = 0;
  /** What the ledger had left when it was last asked; `null` when it was not asked about this lease. */
  #left: number | null = null;
  /** Until this moment of the monotonic clock the ledger is not asked again. */
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

  /** No renewal is under way, so the quota may be dropped. */
  get isSettled(): boolean {
    return this.#renewal === null;
  }

  /** How the quota stands for this cost. Begins a new lease when the period or the rule has turned. */
  status(rule: QuotaRule, cost: number): QuotaStatus {
    if (this.#hasTurned(rule)) {
      // A renewal under way is waited for, so that every block that was asked for finds the lease it belongs to.
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

  /** Spends units of a quota that stands at `enough`. */
  spend(cost: number): void {
    invariant(cost <= this.#units, 'only reserved units are spent');
    this.#units -= cost;
  }

  /** Spends units of a quota that stands at `enough`, and remembers which lease they belong to. */
  hold(cost: number): QuotaHold {
    this.spend(cost);
    return { lease: this.#lease, units: cost };
  }

  /** They were not needed. When the lease they came from is over, they go back to where it was reserved. */
  giveBack({ lease, units }: QuotaHold): void {
    if (lease === this.#lease) this.#units += units;
    else void this.#leases.release(lease, units);
  }

  /** What is known of the quota; `null` when the ledger was not asked yet. */
  state(): LimitState | null {
    if (this.#left === null) return null;
    const { limit } = this.#rule;
    return quotaState(limit, Math.min(limit, this.#units + this.#left), this.#period, this.#leases.now());
  }

  /** Until then a used-up quota grants nothing. */
  secondsUntilTurn(): number {
    return secondsUntil(this.#period.endsAt, this.#leases.now());
  }

  /** Reserves another block, once for all who wait. */
  renew(cost: number): Promise<void> {
    this.#renewal ??= this.#reserve(cost).finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  /** Gives back what was not spent. The quota may be used again afterwards. */
  async release(): Promise<void> {
    while (this.#renewal !== null) await this.#renewal.catch(() => undefined);
    this.#begin();
    await this.#returning;
  }

  async #reserve(cost: number): Promise<void> {
    // What went back must have arrived, or the ledger would find the quota fuller than it is.
    await this.#returning;
    const { limit } = this.#lease;
    // A cost that can never fit reserves nothing: it only asks how the quota stands, as cost 0 does.
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

  /** Begins an empty lease. Units reserved under another limit go back: under a smaller one they would be too many. */
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
