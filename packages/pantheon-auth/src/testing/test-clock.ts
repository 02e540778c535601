/** Time for tests: it stands still until it is moved. */
import type { Clock, Instant } from '../foundation/clock.ts';
import type { Timers } from '../foundation/timers.ts';

const START: Instant = Date.UTC(2030, 0, 1);

interface Timer {
  readonly dueMs: number;
  readonly callback: () => void;
}

/**
 * A clock that is moved by hand, with the timers that belong to it. The two clocks of the machine are apart here as they
 * are there: `advance` moves both, and calls back what is due on the way; `setWall` moves only what the wall says.
 *
 * @example
 * ```ts
 * import { TestClock } from 'pantheon-auth/testing';
 * const clock = new TestClock();
 * clock.advance(60_000);
 * ```
 */
export class TestClock implements Clock {
  readonly timers: Timers;
  readonly #pending = new Set<Timer>();
  #wall: Instant;
  #monotonicMs = 0;

  /** Starts at 2030-01-01T00:00:00Z unless told otherwise. */
  constructor(start: Instant = START) {
    this.#wall = start;
    this.timers = {
      after: (ms, callback) => {
        const timer = { dueMs: this.#monotonicMs + Math.max(0, ms), callback };
        this.#pending.add(timer);
        return () => void this.#pending.delete(timer);
      },
    };
  }

  now(): Instant {
    return this.#wall;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  /**
   * Time passes. Timers are called back in the order in which they are due, each at its own time, also those that are set
   * by one that is called. What a call leaves to happen later (a promise, for one) happens after all of it.
   */
  advance(ms: number): void {
    if (ms < 0) throw new RangeError('Time does not run backwards: use setWall.');
    const end = this.#monotonicMs + ms;
    for (let timer = this.#nextUntil(end); timer !== null; timer = this.#nextUntil(end)) {
      this.#pending.delete(timer);
      this.#pass(timer.dueMs - this.#monotonicMs);
      timer.callback();
    }
    this.#pass(end - this.#monotonicMs);
  }

  /** Somebody sets the wall clock, forwards or back. No time passes. */
  setWall(instant: Instant): void {
    this.#wall = instant;
  }

  #pass(ms: number): void {
    this.#wall += ms;
    this.#monotonicMs += ms;
  }

  #nextUntil(end: number): Timer | null {
    let next: Timer | null = null;
    for (const timer of this.#pending) if (timer.dueMs <= end && timer.dueMs < (next?.dueMs ?? Infinity)) next = timer;
    return next;
  }
}
