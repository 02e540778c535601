/**
 * A leaky bucket per sender, which is charged for failures or for reads that matched no secret, and empties with time.
 * It only counts; its users decide what a full bucket means.
 */
import { LRUCache } from 'lru-cache';
import { type Clock, SECOND_MS } from '../foundation/clock.ts';
import { invariant } from '../foundation/errors.ts';

/** Charges until a bucket is full. Large enough for many users behind one address. */
export const CHARGES_MAX = 20;
/** Charges that leave a bucket per second: a rate at which guessing is hopeless and reads are cheap. */
export const PAID_BACK_PER_SECOND = 1;
/** The most senders: about 10 MB. With more, old buckets are dropped. */
export const SENDERS_MAX = 50_000;

export interface SenderBucketsOptions {
  readonly clock: Clock;
  readonly chargesMax?: number;
  readonly paidBackPerSecond?: number;
  readonly sendersMax?: number;
}

export class SenderBuckets {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  /** A bucket is full when its time is further ahead than this. */
  readonly #toleranceMs: number;
  /** Per sender, the monotonic time at which its bucket is empty, which describes the whole bucket. */
  readonly #emptyAtMs: LRUCache<string, number>;

  constructor(options: SenderBucketsOptions) {
    const { clock, chargesMax = CHARGES_MAX, paidBackPerSecond = PAID_BACK_PER_SECOND } = options;
    invariant(Number.isInteger(chargesMax) && chargesMax > 0, 'a sender may be charged at least once');
    invariant(Number.isFinite(paidBackPerSecond) && paidBackPerSecond > 0, 'what is charged is paid back in the end');
    this.#clock = clock;
    this.#intervalMs = SECOND_MS / paidBackPerSecond;
    this.#toleranceMs = (chargesMax - 1) * this.#intervalMs;
    this.#emptyAtMs = new LRUCache({ max: options.sendersMax ?? SENDERS_MAX });
  }

  /** A full bucket is not charged further, so that it is no longer full after the time of one charge. */
  charge(sender: string): void {
    const now = this.#clock.monotonicMs();
    const emptyAtMs = Math.max(now, this.#emptyAtMs.get(sender) ?? now);
    this.#emptyAtMs.set(sender, Math.min(emptyAtMs, now + this.#toleranceMs) + this.#intervalMs);
  }

  isFull(sender: string): boolean {
    const emptyAtMs = this.#emptyAtMs.get(sender);
    return emptyAtMs !== undefined && emptyAtMs - this.#clock.monotonicMs() > this.#toleranceMs;
  }

  /** The number of full buckets, for metrics. Checks all of them, in about a millisecond. */
  fullCount(): number {
    const fullFromMs = this.#clock.monotonicMs() + this.#toleranceMs;
    let count = 0;
    for (const emptyAtMs of this.#emptyAtMs.values()) if (emptyAtMs > fullFromMs) count += 1;
    return count;
  }
}
