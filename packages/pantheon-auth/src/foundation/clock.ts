/**
 * All clocks of the library: wall time for dates that are stored, monotonic time for durations. This file alone decides
 * what to do when the wall clock jumps or differs from the clock of the database.
 */
import { uptime } from 'node:os';
import { PantheonError } from './errors.ts';
import { systemTimers, type Timers } from './timers.ts';

/** Milliseconds since 1970-01-01T00:00:00Z. */
export type Instant = number;

export interface Clock {
  /** Wall time. */
  now(): Instant;
  /** Milliseconds since an arbitrary start. They never decrease. Only differences are meaningful. */
  monotonicMs(): number;
  /**
   * Like `monotonicMs`, but it also counts while the machine sleeps. Without it the machine is assumed not to sleep.
   */
  bootMs?(): number;
  /**
   * The wall-clock time while it is in doubt, when `now` does not follow it. Meanwhile no tokens may be issued, because
   * others check their dates, and nothing may be accepted that is expired or not yet valid by this time. Null or
   * missing: the clock is not in doubt.
   */
  readonly doubted?: Instant | null;
  /**
   * For how long nothing may be deleted because of its age. Positive after a start at which the clock was far ahead of
   * the last time recorded in the database: either the service was stopped for long, or the clock is wrong. 0 or
   * missing: deleting is allowed.
   */
  readonly mayBeAheadForMs?: number;
  /** Whether the clocks of this machine and the database differ by more than {@link CLOCK_JUMP_MS}; missing: one clock. */
  readonly isSkewed?: boolean;
  /** Timers that use this clock. Default: those of the system. */
  readonly timers?: Timers;
}

/** The earlier of two ends. Null: what has this end lasts for ever. */
export function earlier(one: Instant, other: Instant | null): Instant;
export function earlier(one: Instant | null, other: Instant | null): Instant | null;
export function earlier(one: Instant | null, other: Instant | null): Instant | null {
  const end = Math.min(one ?? Number.POSITIVE_INFINITY, other ?? Number.POSITIVE_INFINITY);
  return end === Number.POSITIVE_INFINITY ? null : end;
}

/** A moment by both clocks. The monotonic clock stops while a machine sleeps; the wall clock can be set. */
export interface Moment {
  readonly monotonicMs: number;
  readonly wallMs: Instant;
}

/** The current moment. */
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

/** A larger jump is reported. Smaller ones are normal corrections. */
export const CLOCK_JUMP_MS: number = 5 * SECOND_MS;
/** A larger difference between two clocks is no drift: one of them is wrong, and it is not known which. */
export const CLOCK_DOUBT_MS: number = 5 * MINUTE_MS;
/** How often the wall clock is compared with the monotonic one when it did not jump. */
const COMPARE_EVERY_MS: number = MINUTE_MS;
/** Small corrections of the wall clock are accepted. Their sum is compared over at most this time. */
const CORRECTIONS_KEPT_MS: number = HOUR_MS;
/** While in doubt, how often the operating system is asked whether the machine has slept. */
const ASK_SLEEP_EVERY_MS: number = SECOND_MS;
/** The operating system counts sleep in whole seconds, so shorter sleeps are ignored. */
const SLEEP_MIN_MS: number = 3 * SECOND_MS;

/** Why the wall clock is in doubt: `wall`: it jumped. `log`: an event in the log is dated far in its future. */
export type ClockDoubt = 'wall' | 'log';

/** Receives reports about clocks that differ. */
export interface ClockWatcher {
  /** The clock of this machine was set back by more than {@link CLOCK_JUMP_MS}. */
  onSetBack(byMs: number): void;
  /**
   * The clock of the database is ahead of this machine's by `byMs`, more than {@link CLOCK_JUMP_MS}; 0: they agree
   * again.
   */
  onSkew(byMs: number): void;
  /** The wall clock is in doubt, by more than {@link CLOCK_DOUBT_MS}; null: no longer. */
  onDoubt(doubt: ClockDoubt | null, byMs: number): void;
}

/** @throws PantheonError `clock_in_doubt` when the current time may be wrong. */
export function assertCertainTime(clock: Clock): void {
  clock.now();
  if (clock.doubted != null) throw clockInDoubt();
}

/**
 * Whether nothing suggests that the time is wrong: the clock is not in doubt, agrees with that of the database, and was not
 * far ahead at the last start. Jobs ask it before they delete rows because of their age, rotate or expire: correcting the
 * clock would not bring back what was deleted, nor a version or a key that was ended. Stricter than
 * {@link assertCertainTime}, which throws only while the clock is in doubt.
 */
export function isTimeCertain(clock: Clock): boolean {
  clock.now();
  return clock.doubted == null && clock.isSkewed !== true && (clock.mayBeAheadForMs ?? 0) === 0;
}

/** The error for a request that cannot be answered while the clock is in doubt. */
export function clockInDoubt(): PantheonError {
  return new PantheonError('clock_in_doubt', { retryAfterSeconds: CLOCK_JUMP_MS / SECOND_MS });
}

/**
 * Wall time that never decreases, so that a clock that is set back makes nothing valid again that had expired (I14).
 * After a large step back it continues at the monotonic rate until the wall clock has caught up; after a small one it
 * stands still. If the database runs on another machine, its time is used, because it is the same for every node.
 *
 * When the wall clock differs from the monotonic one by more than {@link CLOCK_DOUBT_MS} in either direction, it is in
 * doubt: this clock then continues at the monotonic rate from the last accepted time, until the wall clock agrees with
 * it again.
 */
export class NonDecreasingClock implements Clock {
  readonly #source: Clock;
  readonly #watcher: ClockWatcher;
  #last: Instant;
  /** The time from which this clock continues at the monotonic rate while the wall clock is behind. */
  #anchorWall: Instant;
  #anchorMono: number;
  #behind = false;
  /** The last accepted reading of all clocks. The wall clock is compared with it. */
  #believed: { wall: Instant; mono: number; boot: number; sleptMs: number };
  #compareAt: Instant;
  #askedSleepMono = Number.NEGATIVE_INFINITY;
  #wallDoubt = false;
  #logDoubt = false;
  #mayBeAheadUntilMono = Number.NEGATIVE_INFINITY;
  /** How far the clock of the database is ahead of this machine's. */
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

  /** While they differ, jobs delete, rotate and expire nothing: {@link isTimeCertain}. */
  get isSkewed(): boolean {
    return Math.abs(this.#offsetMs) > CLOCK_JUMP_MS;
  }

  /** As of the last call of `now`. */
  get doubted(): Instant | null {
    return this.#wallDoubt || this.#logDoubt ? this.#source.now() + this.#offsetMs : null;
  }

  get mayBeAheadForMs(): number {
    // Rounded up to whole milliseconds, because the monotonic clock has fractions.
    return Math.max(0, Math.ceil(this.#mayBeAheadUntilMono - this.#source.monotonicMs()));
  }

  /** Notes that the clock may be ahead, for so long by the monotonic clock. `now` is not changed by it. */
  suspectAhead(forMs: number): void {
    this.#mayBeAheadUntilMono = this.#source.monotonicMs() + forMs;
  }

  /**
   * Advances this clock to the date of an event in the log. A date far in the future is not accepted, and puts the
   * clock in doubt.
   */
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
   * Adjusts this clock to the database's, which read `storeNow` within the last `withinMs`, by the smallest amount that
   * makes them agree, so that dates written by one node are not in the future of another. On the first call it may also
   * go back, because nothing has been dated by it yet.
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

  /** Sets the time, also back. For the start, and for a time that an operator has accepted. */
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

  /** Handles a reading that differs from what was expected. */
  #compared(wall: Instant): Instant {
    const expected = this.#expected(wall);
    const isFar = Math.abs(wall - expected) > CLOCK_DOUBT_MS;
    if (isFar) return this.#withoutTheWall(wall, expected);
    if (this.#wallDoubt) this.#behind = true; // The time reached meanwhile is kept.
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

  /**
   * What the wall clock should read, by the monotonic one. The operating system is asked about sleep only at a large
   * difference.
   */
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
