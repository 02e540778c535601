/**
 * Slows down an address that keeps presenting credentials that are not known, so that forged keys cannot buy cold reads
 * (I9). It never refuses a key that is known: the caller asks only before work that a forger could cause.
 */
import { LRUCache } from 'lru-cache';
import { failureScope } from '../domain/address.ts';
import { type Clock, SECOND_MS } from '../foundation/clock.ts';
import { invariant } from '../foundation/errors.ts';

/** Failures in a row before an address waits: many people behind one address may each mistype, or deploy an old key. */
export const FAILURES_MAX = 20;

/** Failures forgiven per second: guessing at this rate finds nothing, and one cold read per second costs nothing. */
export const FAILURES_FORGIVEN_PER_SECOND = 1;

/** Addresses remembered: about 10 MB. Who has more addresses than this makes us forget, which only forgives. */
export const ADDRESSES_MAX = 50_000;

export interface AddressThrottleOptions {
  readonly clock: Clock;
  readonly failuresMax?: number;
  readonly refillPerSecond?: number;
  readonly addressesMax?: number;
}

export class AddressThrottle {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  /** How far ahead the bucket may be and still take one more failure. */
  readonly #toleranceMs: number;
  /** Per sender, the monotonic time at which all its failures are forgiven: one number is the whole bucket. */
  readonly #forgivenAtMs: LRUCache<string, number>;

  constructor(options: AddressThrottleOptions) {
    const { clock, failuresMax = FAILURES_MAX, refillPerSecond = FAILURES_FORGIVEN_PER_SECOND } = options;
    invariant(Number.isInteger(failuresMax) && failuresMax > 0, 'an address may fail at least once');
    invariant(Number.isFinite(refillPerSecond) && refillPerSecond > 0, 'failures are forgiven in the end');
    this.#clock = clock;
    this.#intervalMs = SECOND_MS / refillPerSecond;
    this.#toleranceMs = (failuresMax - 1) * this.#intervalMs;
    this.#forgivenAtMs = new LRUCache({ max: options.addressesMax ?? ADDRESSES_MAX });
  }

  /** Whether this address has to wait. No address (a call in process) never waits. */
  isThrottled(address: string | null): boolean {
    return this.#waitMs(address) > 0;
  }

  /** Whole seconds until {@link isThrottled} says no; 0 when it does already. */
  retryAfterSeconds(address: string | null): number {
    return Math.ceil(this.#waitMs(address) / SECOND_MS);
  }

  /** Counts a failure. A full bucket gets no fuller, so that nobody is locked out for longer than it takes to empty. */
  fail(address: string | null): void {
    if (address === null) return;
    const now = this.#clock.monotonicMs();
    const scope = failureScope(address);
    const forgivenAtMs = Math.max(now, this.#forgivenAtMs.get(scope) ?? now);
    this.#forgivenAtMs.set(scope, Math.min(forgivenAtMs, now + this.#toleranceMs) + this.#intervalMs);
  }

  #waitMs(address: string | null): number {
    // While nobody has failed, nothing is parsed.
    if (address === null || this.#forgivenAtMs.size === 0) return 0;
    const forgivenAtMs = this.#forgivenAtMs.get(failureScope(address));
    if (forgivenAtMs === undefined) return 0;
    return Math.max(0, forgivenAtMs - this.#clock.monotonicMs() - this.#toleranceMs);
  }
}
