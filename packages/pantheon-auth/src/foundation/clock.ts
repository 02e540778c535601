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

/** What is told when the clocks disagree. */
export interface ClockWatcher {
  /** The clock of this machine was set back by more than {@link CLOCK_JUMP_MS}. */
  onSetBack(byMs: number): void;
  /** The clock of the store is ahead of this machine's by this, more than {@link CLOCK_JUMP_MS}; 0: they agree again. */
  onApart(byMs: number): void;
}

/**
 * Wall time that never goes back, so that a clock set back revives nothing that had expired (I14). After a large step
 * back it goes on at the monotonic rate until the wall clock has caught up; after a small one it waits. Where the store
 * is another machine its time is used: it is the same for every node.
 */
export class ForwardClock implements Clock {
  readonly #source: Clock;
  readonly #watcher: ClockWatcher;
  #last: Instant;
  #anchorWall: Instant;
  #anchorMono: number;
  #behind = false;
  /** What the store's clock is ahead of this machine's. */
  #offsetMs = 0;
  #isHeeding = false;

  constructor(source: Clock, watcher: Partial<ClockWatcher> = {}) {
    this.#source = source;
    this.#watcher = { onSetBack: () => {}, onApart: () => {}, ...watcher };
    this.#last = source.now();
    this.#anchorWall = this.#last;
    this.#anchorMono = source.monotonicMs();
  }

  now(): Instant {
    const wall = this.#source.now() + this.#offsetMs;
    if (this.#behind) this.#last = Math.max(this.#last, this.#sinceAnchor());
    if (wall < this.#last) return this.#afterStepBack(wall);
    this.#behind = false;
    this.#last = wall;
    return wall;
  }

  monotonicMs(): number {
    return this.#source.monotonicMs();
  }

  /** Whether this machine and the store disagree on the time. What cannot be undone waits until they agree. */
  get isDisputed(): boolean {
    return Math.abs(this.#offsetMs) > CLOCK_JUMP_MS;
  }

  /** It is at least this late: the log says so. */
  atLeast(instant: Instant): void {
    if (instant > this.now()) {
      this.#last = instant;
      this.#anchor();
    }
  }

  /**
   * Sets this clock by the store's, which said `storeNow` within the last `withinMs`: as little as it takes to agree, so
   * that what one node dates is not in the future of another. The first time it may also go back: nothing was dated yet
   * by the clock that was wrong.
   */
  heed(storeNow: Instant, withinMs: number): void {
    const wall = this.#source.now() + this.#offsetMs;
    const wasDisputed = this.isDisputed;
    this.#offsetMs += Math.max(0, storeNow - wall) + Math.min(0, storeNow + Math.ceil(withinMs) - wall);
    if (this.isDisputed !== wasDisputed) this.#watcher.onApart(this.isDisputed ? this.#offsetMs : 0);
    if (!this.#isHeeding) {
      this.#isHeeding = true;
      this.#last = this.#source.now() + this.#offsetMs;
      this.#behind = false;
      this.#anchor();
    }
  }

  #afterStepBack(wall: Instant): Instant {
    const behind = this.#last - wall > CLOCK_JUMP_MS;
    if (behind && !this.#behind) {
      this.#anchor();
      this.#watcher.onSetBack(wall - this.#last);
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
