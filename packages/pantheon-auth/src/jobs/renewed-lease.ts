/** Renews the lease of a run while the run lasts, and reports its loss. */
import type { LeaseHeld } from '../events/ledger.ts';
import type { NonDecreasingClock } from '../foundation/clock.ts';
import type { JobLeaseRows } from './job-lease.ts';

const RENEWALS_PER_HOLD = 3;

export interface RenewedLeaseDeps {
  readonly rows: JobLeaseRows;
  readonly clock: Pick<NonDecreasingClock, 'now' | 'monotonicMs' | 'timers'>;
  readonly holdMs: number;
  /** Called once when another node has the lease, or may have it because it could not be renewed in time. */
  readonly onLost: () => void;
}

export class RenewedLease {
  readonly #lease: LeaseHeld;
  readonly #deps: RenewedLeaseDeps;
  /** By the monotonic clock, from before the request was sent, so not later than the expiry in the database. */
  #heldUntilMs: number;
  #isOver = false;
  #cancelRenewal = (): void => {};
  #cancelEnd = (): void => {};

  /** `takenMs`: when the lease was requested. */
  constructor(lease: LeaseHeld, takenMs: number, deps: RenewedLeaseDeps) {
    this.#lease = lease;
    this.#deps = deps;
    this.#heldUntilMs = takenMs + deps.holdMs;
    this.#arm();
  }

  get heldUntilMs(): number {
    return this.#heldUntilMs;
  }

  /** Stops renewing. The lease is held until it is released or expires. */
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
      // The database does not answer: try again until the lease expires.
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
