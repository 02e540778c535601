/**
 * The one home of the clocks: wall time for facts that outlive the process, monotonic time for durations. What to believe
 * of a wall clock that jumps, or that the store contradicts, is decided here and nowhere else.
 */
import { uptime } from 'node:os';
import { PantheonError } from './errors.ts';
import { systemTimers, type Timers } from './timers.ts';

/** Milliseconds since 1970-01-01T00:00:00Z. */
export type Instant = number;

export interface Clock {
  /** Wall time. */
  now(): Instant;
  /** Milliseconds from an arbitrary start that never go backwards. Only differences mean something. */
  monotonicMs(): number;
  /** Like `monotonicMs`, and it goes on while the machine sleeps. Where it is missing the machine does not sleep. */
  bootMs?(): number;
  /**
   * What the wall clock says while that is in doubt and `now` does not follow it: then nothing may be issued that others
   * judge by its date, and what this time would refuse may not be accepted. Null or missing: there is no doubt.
   */
  readonly doubted?: Instant | null;
  /**
   * For how long nothing may be deleted because of its age: the clock was far ahead of what the store had seen at a start,
   * which is either a long rest or a wrong clock. 0 or missing: no longer.
   */
  readonly mayBeAheadForMs?: number;
  /** Whether this machine and the store disagree on the time; missing: there is no store that has one. */
  readonly isSkewed?: boolean;
  /** Timers that follow this clock. Missing: those of the system. */
  readonly timers?: Timers;
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

export const SECOND_MS = 1_000;
export const MINUTE_MS: number = 60 * SECOND_MS;
export const HOUR_MS: number = 60 * MINUTE_MS;
export const DAY_MS: number = 24 * HOUR_MS;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  bootMs: () => uptime() * SECOND_MS,
};

/** A jump larger than this is reported; a smaller one is how clocks are kept right. */
export const CLOCK_JUMP_MS: number = 5 * SECOND_MS;
/** Clocks that are further apart than this do not drift: one of them is wrong, and nobody knows which. */
export const CLOCK_DOUBT_MS: number = 5 * MINUTE_MS;
/** How often the wall clock is compared with the monotonic one even though it did not jump. */
const COMPARE_EVERY_MS: number = MINUTE_MS;
/** Small corrections of the wall clock are believed. Added up over more time than this, they are not compared any more. */
const CORRECTIONS_KEPT_MS: number = HOUR_MS;
/** In doubt, how often the operating system is asked whether the machine has slept. */
const ASK_SLEEP_EVERY_MS: number = SECOND_MS;
/** The operating system counts whole seconds: a sleep shorter than this is none. */
const SLEEP_MIN_MS: number = 3 * SECOND_MS;

/** Why the wall clock is in doubt: it jumped, or an event of the log lies far in its future. */
export type ClockDoubt = 'wall' | 'log';

/** What is told when the clocks disagree. */
export interface ClockWatcher {
  /** The clock of this machine was set back by more than {@link CLOCK_JUMP_MS}. */
  onSetBack(byMs: number): void;
  /** The clock of the store is ahead of this machine's by this, more than {@link CLOCK_JUMP_MS}; 0: they agree again. */
  onSkew(byMs: number): void;
  /** The wall clock is in doubt, by more than {@link CLOCK_DOUBT_MS}; null: it is not any more. */
  onDoubt(doubt: ClockDoubt | null, byMs: number): void;
}

/** @throws PantheonError `clock_in_doubt` when a date of now might be far from the real one. */
export function assertCertainTime(clock: Clock): void {
  clock.now();
  if (clock.doubted != null) throw clockInDoubt();
}

/**
 * Whether what is old by this clock may be deleted. A wrong clock can be put right, and what it had deleted would be gone:
 * counts, and also that a request was answered or a token revoked.
 */
export function mayDeleteByAge(clock: Clock): boolean {
  clock.now();
  return clock.doubted == null && clock.isSkewed !== true && (clock.mayBeAheadForMs ?? 0) === 0;
}

/** For whoever asks for what only a clock that can be believed may answer. */
export function clockInDoubt(): PantheonError {
  return new PantheonError('clock_in_doubt', { retryAfterSeconds: CLOCK_JUMP_MS / SECOND_MS });
}

/**
 * Wall time that never goes back, so that a clock set back revives nothing that had expired (I14). After a large step
 * back it goes on at the monotonic rate until the wall clock has caught up; after a small one it waits. Where the store
 * is another machine its time is used: it is the same for every node.
 *
 * A wall clock that leaves the monotonic one by more than {@link CLOCK_DOUBT_MS}, forwards or back, is in doubt: this
 * clock goes on at the monotonic rate from the last time that was believed, until the wall clock agrees with it again.
 */
export class NonDecreasingClock implements Clock {
  readonly #source: Clock;
  readonly #watcher: ClockWatcher;
  #last: Instant;
  /** From here time goes on at the monotonic rate while the wall clock is behind. */
  #anchorWall: Instant;
  #anchorMono: number;
  #behind = false;
  /** The last time that was believed, by all clocks: what the wall clock is compared with. */
  #believed: { wall: Instant; mono: number; boot: number; sleptMs: number };
  #compareAt: Instant;
  #askedSleepMono = Number.NEGATIVE_INFINITY;
  #wallDoubt = false;
  #logDoubt = false;
  #mayBeAheadUntilMono = Number.NEGATIVE_INFINITY;
  /** What the store's clock is ahead of this machine's. */
  #offsetMs = 0;
  #isHeeding = false;

  constructor(source: Clock, watcher: Partial<ClockWatcher> = {}) {
    this.#source = source;
    this.#watcher = { onSetBack: () => {}, onSkew: () => {}, onDoubt: () => {}, ...watcher };
    this.#last = source.now();
    this.#anchorWall = this.#last;
    this.#anchorMono = source.monotonicMs();
    this.#believed = this.#belief(this.#last);
    this.#compareAt = this.#last + COMPARE_EVERY_MS;
  }

  now(): Instant {
    const wall = this.#source.now() + this.#offsetMs;
    if (this.#isPlain && wall >= this.#last && wall < this.#compareAt) {
      this.#last = wall;
      return wall;
    }
    return this.#compared(wall);
  }

  monotonicMs(): number {
    return this.#source.monotonicMs();
  }

  get timers(): Timers {
    return this.#source.timers ?? systemTimers;
  }

  /** What cannot be undone waits until they agree: {@link mayDeleteByAge}. */
  get isSkewed(): boolean {
    return Math.abs(this.#offsetMs) > CLOCK_JUMP_MS;
  }

  /** As of the last time that somebody asked for the time. */
  get doubted(): Instant | null {
    return this.#wallDoubt || this.#logDoubt ? this.#source.now() + this.#offsetMs : null;
  }

  get mayBeAheadForMs(): number {
    // Whole, because it is stored as a time; the monotonic clock counts fractions.
    return Math.max(0, Math.ceil(this.#mayBeAheadUntilMono - this.#source.monotonicMs()));
  }

  /** For so long of the monotonic clock this one may be ahead. It is followed all the same. */
  suspectAhead(forMs: number): void {
    this.#mayBeAheadUntilMono = this.#source.monotonicMs() + forMs;
  }

  /** It is at least this late: the log says so. What lies far in the future is not believed, and puts the clock in doubt. */
  advanceTo(instant: Instant): void {
    const now = this.now();
    if (instant <= now && !this.#logDoubt) return;
    this.#doubt('log', instant - now > CLOCK_DOUBT_MS, now - instant);
    if (instant > now && !this.#logDoubt) {
      this.#last = instant;
      this.#anchor();
    }
  }

  /**
   * Sets this clock by the store's, which said `storeNow` within the last `withinMs`: as little as it takes to agree, so
   * that what one node dates is not in the future of another. The first time it may also go back: nothing was dated yet
   * by the clock that was wrong.
   */
  syncTo(storeNow: Instant, withinMs: number): void {
    const wall = this.#source.now() + this.#offsetMs;
    const wasDisputed = this.isSkewed;
    this.#offsetMs += Math.max(0, storeNow - wall) + Math.min(0, storeNow + Math.ceil(withinMs) - wall);
    if (this.isSkewed !== wasDisputed) this.#watcher.onSkew(this.isSkewed ? this.#offsetMs : 0);
    if (!this.#isHeeding) {
      this.#isHeeding = true;
      this.accept(this.#source.now() + this.#offsetMs);
    }
  }

  /** This is the time, whatever was believed before: it may go back. For a start, and for what an operator has decided. */
  accept(instant: Instant): void {
    this.#last = instant;
    this.#behind = false;
    this.#mayBeAheadUntilMono = Number.NEGATIVE_INFINITY;
    this.#anchor();
    this.#believe(instant);
    this.#doubt('wall', false, 0);
    this.#doubt('log', false, 0);
  }

  get #isPlain(): boolean {
    return !this.#behind && !this.#wallDoubt;
  }

  /** The way of a reading that is not simply the next one. */
  #compared(wall: Instant): Instant {
    const expected = this.#expected(wall);
    const isFar = Math.abs(wall - expected) > CLOCK_DOUBT_MS;
    if (isFar) return this.#withoutTheWall(wall, expected);
    if (this.#wallDoubt) this.#behind = true; // What was reached without the wall clock is kept.
    this.#doubt('wall', false, 0);
    this.#compareAt = Math.max(wall, this.#last) + COMPARE_EVERY_MS;
    if (this.#believed.mono + CORRECTIONS_KEPT_MS < this.#source.monotonicMs()) this.#believe(wall);
    if (this.#behind) this.#last = Math.max(this.#last, this.#sinceAnchor());
    if (wall < this.#last) return this.#afterStepBack(wall);
    this.#behind = false;
    this.#last = wall;
    return wall;
  }

  #withoutTheWall(wall: Instant, expected: Instant): Instant {
    if (this.#isPlain) {
      this.#anchor();
      if (this.#last - wall > CLOCK_JUMP_MS) this.#watcher.onSetBack(wall - this.#last);
    }
    this.#doubt('wall', true, wall - expected);
    this.#last = Math.max(this.#last, expected, this.#sinceAnchor());
    return this.#last;
  }

  /** What the wall clock should say by the monotonic one. Only a large difference is worth asking whether we slept. */
  #expected(wall: Instant): Instant {
    const mono = this.#source.monotonicMs();
    const awake = this.#believed.wall + mono - this.#believed.mono;
    if (
      Math.abs(wall - awake - this.#believed.sleptMs) > CLOCK_DOUBT_MS &&
      mono - this.#askedSleepMono >= ASK_SLEEP_EVERY_MS
    ) {
      this.#askedSleepMono = mono;
      const slept = this.#bootMs() - this.#believed.boot - (mono - this.#believed.mono);
      this.#believed.sleptMs = slept < SLEEP_MIN_MS ? 0 : slept;
    }
    return Math.floor(awake + this.#believed.sleptMs);
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

  #doubt(cause: ClockDoubt, isDoubted: boolean, byMs: number): void {
    const before = this.#wallDoubt || this.#logDoubt;
    if (cause === 'wall') this.#wallDoubt = isDoubted;
    else this.#logDoubt = isDoubted;
    const after = this.#wallDoubt || this.#logDoubt;
    if (before !== after) this.#watcher.onDoubt(after ? cause : null, after ? byMs : 0);
  }

  #sinceAnchor(): Instant {
    return Math.floor(this.#anchorWall + this.#source.monotonicMs() - this.#anchorMono);
  }

  #anchor(): void {
    this.#anchorWall = this.#last;
    this.#anchorMono = this.#source.monotonicMs();
  }

  #believe(wall: Instant): void {
    this.#believed = this.#belief(wall);
    this.#compareAt = wall + COMPARE_EVERY_MS;
  }

  #belief(wall: Instant): { wall: Instant; mono: number; boot: number; sleptMs: number } {
    return { wall, mono: this.#source.monotonicMs(), boot: this.#bootMs(), sleptMs: 0 };
  }

  #bootMs(): number {
    return this.#source.bootMs?.() ?? this.#source.monotonicMs();
  }
}
