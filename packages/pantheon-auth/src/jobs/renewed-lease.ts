/** Keeps the lease of a run for as long as the run lasts, and says when it is lost. */
import type { LeaseHeld } from '../events/ledger.ts';
import type { NonDecreasingClock } from '../foundation/clock.ts';
import type { JobLeaseRows } from './job-lease.ts';

const RENEWALS_PER_HOLD = 3;

export interface RenewedLeaseDeps {
  readonly rows: JobLeaseRows;
  readonly clock: Pick<NonDecreasingClock, 'now' | 'monotonicMs' | 'timers'>;
  readonly holdMs: number;
  /** Called once: another node has the lease, or may have it, since it could not be renewed in time. */
  readonly onLost: () => void;
}

export class RenewedLease {
  readonly #lease: LeaseHeld;
  readonly #deps: RenewedLeaseDeps;
  /** By the monotonic clock, counted from before the store was asked: on the safe side of what the store counts. */
  #heldUntilMs: number;
  #isOver = false;
  #cancelRenewal = (): void => {};
  #cancelEnd = (): void => {};

  /** `takenMs`: when the store was asked for the lease. */
  constructor(lease: LeaseHeld, takenMs: number, deps: RenewedLeaseDeps) {
    this.#lease = lease;
    this.#deps = deps;
    this.#heldUntilMs = takenMs + deps.holdMs;
    this.#arm();
  }

  get heldUntilMs(): number {
    return this.#heldUntilMs;
  }

  /** Renews it no more. It is held until it is given back, or runs out. */
  stop(): void {
    this.#isOver = true;
    this.#cancelRenewal();
    this.#cancelEnd();
  }

  #arm(): void {
    const { clock, holdMs } = this.#deps;
    this.#cancelEnd();
    this.#cancelEnd = clock.timers.after(Math.max(0, this.#heldUntilMs - clock.monotonicMs()), () => this.#lose());
    this.#cancelRenewal = clock.timers.after(holdMs / RENEWALS_PER_HOLD, () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const { rows, clock, holdMs } = this.#deps;
    const askedMs = clock.monotonicMs();
    try {
      const isHeld = await rows.renew(this.#lease, { holdMs, now: clock.now() });
      if (this.#isOver) return;
      if (!isHeld) return this.#lose();
      this.#heldUntilMs = askedMs + holdMs;
    } catch {
      // The store is away: asked again, until the lease is over.
      if (this.#isOver) return;
    }
    this.#arm();
  }

  #lose(): void {
    if (this.#isOver) return;
    this.stop();
    this.#heldUntilMs = Number.NEGATIVE_INFINITY;
    this.#deps.onLost();
  }
}
