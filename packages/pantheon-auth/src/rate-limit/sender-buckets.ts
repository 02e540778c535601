/**
 * A bucket per sender that fills by what it is charged and empties with time: who failed a lot lately, who owes for reads
 * that proved nothing. It only counts; what follows for a sender whose bucket is full is the caller's business.
 */
import { LRUCache } from 'lru-cache';
import { type Clock, SECOND_MS } from '../foundation/clock.ts';
import { invariant } from '../foundation/errors.ts';

/** Charges until a bucket is full: many people behind one address may each mistype, or deploy an old key. */
export const CHARGES_MAX = 20;
/** What leaves a bucket per second: guessing at this rate finds nothing, and one cold read per second costs nothing. */
export const PAID_BACK_PER_SECOND = 1;
/** Senders remembered: about 10 MB. Who has more addresses than this makes us forget, which only forgives. */
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
  /** How far ahead a bucket may be and still not be full. */
  readonly #toleranceMs: number;
  /** Per sender, the monotonic time at which its bucket is empty: one number is the whole bucket. */
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

  /** A full bucket gets no fuller, so that it is full for no longer than one charge takes to be paid back. */
  charge(sender: string): void {
    const now = this.#clock.monotonicMs();
    const emptyAtMs = Math.max(now, this.#emptyAtMs.get(sender) ?? now);
    this.#emptyAtMs.set(sender, Math.min(emptyAtMs, now + this.#toleranceMs) + this.#intervalMs);
  }

  isFull(sender: string): boolean {
    const emptyAtMs = this.#emptyAtMs.get(sender);
    return emptyAtMs !== undefined && emptyAtMs - this.#clock.monotonicMs() > this.#toleranceMs;
  }

  /** How many senders have a full bucket. For metrics: it looks at all that are remembered, about a millisecond. */
  fullCount(): number {
    const fullFromMs = this.#clock.monotonicMs() + this.#toleranceMs;
    let count = 0;
    for (const emptyAtMs of this.#emptyAtMs.values()) if (emptyAtMs > fullFromMs) count += 1;
    return count;
  }
}
