/** The one home of the two clocks: wall time for facts that outlive the process, monotonic time for durations. */

/** Milliseconds since 1970-01-01T00:00:00Z. */
export type Instant = number;

export interface Clock {
  /** Wall time. */
  now(): Instant;
  /** Milliseconds from an arbitrary start that never go backwards. Only differences mean something. */
  monotonicMs(): number;
}

/** A moment by both clocks. The monotonic one stands still while a machine sleeps; the wall clock can be set. */
export interface Moment {
  readonly monotonicMs: number;
  readonly wallMs: Instant;
}

/** This moment. */
export function momentOf(clock: Clock): Moment {
  return { monotonicMs: clock.monotonicMs(), wallMs: clock.now() };
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
};

export const SECOND_MS = 1_000;
export const MINUTE_MS: number = 60 * SECOND_MS;
export const HOUR_MS: number = 60 * MINUTE_MS;
export const DAY_MS: number = 24 * HOUR_MS;

/** A jump larger than this is reported; a smaller one is how clocks are kept right. */
export const CLOCK_JUMP_MS: number = 5 * SECOND_MS;

/**
 * Wall time that never goes back, so that a clock set back revives nothing that had expired (I14). After a large step
 * back it goes on at the monotonic rate until the wall clock has caught up; after a small one it waits.
 */
export class ForwardClock implements Clock {
  readonly #source: Clock;
  readonly #onJump: (byMs: number) => void;
  #last: Instant;
  #anchorWall: Instant;
  #anchorMono: number;
  #behind = false;

  constructor(source: Clock, onJump: (byMs: number) => void = () => {}) {
    this.#source = source;
    this.#onJump = onJump;
    this.#last = source.now();
    this.#anchorWall = this.#last;
    this.#anchorMono = source.monotonicMs();
  }

  now(): Instant {
    const wall = this.#source.now();
    if (this.#behind) this.#last = Math.max(this.#last, this.#sinceAnchor());
    if (wall < this.#last) return this.#afterStepBack(wall);
    this.#behind = false;
    this.#last = wall;
    return wall;
  }

  monotonicMs(): number {
    return this.#source.monotonicMs();
  }

  /** It is at least this late: the log says so. */
  atLeast(instant: Instant): void {
    if (instant > this.now()) {
      this.#last = instant;
      this.#anchor();
    }
  }

  #afterStepBack(wall: Instant): Instant {
    const behind = this.#last - wall > CLOCK_JUMP_MS;
    if (behind && !this.#behind) {
      this.#anchor();
      this.#onJump(wall - this.#last);
    }
    this.#behind = behind;
    return this.#last;
  }

  #sinceAnchor(): Instant {
    return Math.floor(this.#anchorWall + this.#source.monotonicMs() - this.#anchorMono);
  }

  #anchor(): void {
    this.#anchorWall = this.#last;
    this.#anchorMono = this.#source.monotonicMs();
  }
}
