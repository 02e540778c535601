/** A clock for tests, which stands still until the test advances it. */
import type { Clock, Instant } from '../foundation/clock.ts';
import type { Timers } from '../foundation/timers.ts';

const START: Instant = Date.UTC(2030, 0, 1);

interface Timer {
  readonly dueMs: number;
  readonly callback: () => void;
}

/**
 * A clock that the test controls, with its timers. Like a machine it has a monotonic and a wall clock: `advance` moves
 * both and runs the timers that become due; `setWall` sets only the wall clock.
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

  /** Starts at 2030-01-01T00:00:00Z by default. */
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
   * Advances both clocks. Timers run in the order in which they are due, each at its own time, also those set by a
   * timer that runs. Asynchronous work started by timers continues after this call.
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

  /** Sets the wall clock forwards or back. The monotonic clock does not change. */
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
