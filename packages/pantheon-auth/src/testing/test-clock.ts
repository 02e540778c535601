/** Time for tests: it stands still until it is moved. */
import type { Clock, Instant } from '../foundation/clock.ts';

const START: Instant = Date.UTC(2030, 0, 1);

/**
 * A clock that is moved by hand. The two clocks of the machine are apart here as they are there: `advance` moves both,
 * `setWall` only what the wall says.
 *
 * @example
 * ```ts
 * import { TestClock } from 'pantheon-auth/testing';
 * const clock = new TestClock();
 * clock.advance(60_000);
 * ```
 */
export class TestClock implements Clock {
  #wall: Instant;
  #monotonicMs = 0;

  /** Starts at 2030-01-01T00:00:00Z unless told otherwise. */
  constructor(start: Instant = START) {
    this.#wall = start;
  }

  now(): Instant {
    return this.#wall;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  /** Time passes. */
  advance(ms: number): void {
    if (ms < 0) throw new RangeError('Time does not run backwards: use setWall.');
    this.#wall += ms;
    this.#monotonicMs += ms;
  }

  /** Somebody sets the wall clock, forwards or back. No time passes. */
  setWall(instant: Instant): void {
    this.#wall = instant;
  }
}
