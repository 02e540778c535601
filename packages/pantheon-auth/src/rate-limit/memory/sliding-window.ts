/**
 * One rate limit in memory: what was admitted and when, so that it never passes the limit in *any* window. The caller
 * advances it to now, asks, and only then takes. The same arithmetic runs in Redis: `redis/redis-windows-script.ts`.
 */
import { type LimitState, RATE_LIMIT_MAX, type RateLimitRule, WINDOW_SECONDS_MAX } from '../../domain/limits.ts';
import { SECOND_MS } from '../../foundation/clock.ts';
import { invariant } from '../../foundation/errors.ts';
import { ENTRIES_PER_WINDOW_MAX, entryEndMs, rateState, secondsUntilEntryLeft } from '../rate-limiter.ts';

/** Entries that a new window has room for; more is granted when they are used. */
export const ENTRIES_AT_FIRST = 8;

/**
 * All times are whole milliseconds of a monotonic clock that starts at 0.
 *
 * An entry is units and the latest moment at which one of them may have been used. It is counted until that moment is a
 * whole window old.
 */
export class SlidingWindow {
  #rule: RateLimitRule;
  readonly #windowMs: number;
  /** Plain arrays: typed ones this short take more memory and longer to make. The entries begin at `#first`. */
  readonly #ends: number[] = [];
  readonly #units: number[] = [];
  #first = 0;
  /** The sum of all entries. */
  #total = 0;
  #entriesMax: number;

  constructor(rule: RateLimitRule, entriesMax: number = ENTRIES_PER_WINDOW_MAX) {
    assertRule(rule);
    this.#rule = rule;
    this.#windowMs = rule.windowSeconds * SECOND_MS;
    this.#entriesMax = Math.min(entriesMax, ENTRIES_PER_WINDOW_MAX);
  }

  /**
   * A window for a new rule, filled with what windows of other rules know, so that changing a rule grants nothing anew. Of
   * several it takes the one that has counted most in the time that the new one looks back.
   */
  static seededFrom(
    rule: RateLimitRule,
    others: readonly SlidingWindow[],
    nowMs: number,
    entriesMax?: number,
  ): SlidingWindow {
    const window = new SlidingWindow(rule, entriesMax);
    const sinceMs = nowMs - window.#windowMs;
    const [source] = others
      .map((other) => ({ other, units: other.#countedSince(sinceMs, nowMs) }))
      .sort(
        (a, b) => b.units - a.units || a.other.#windowMs - b.other.#windowMs || b.other.#lastEnd - a.other.#lastEnd,
      );
    if (source !== undefined) window.#seed(source.other, nowMs);
    return window;
  }

  get rule(): RateLimitRule {
    return this.#rule;
  }

  /** Units that are available now. Not below zero, also after the limit was lowered. */
  get remaining(): number {
    return Math.max(0, this.#rule.limit - this.#total);
  }

  /** Units counted in the window. */
  get counted(): number {
    return this.#total;
  }

  /** Entries that it has room for. */
  get entriesMax(): number {
    return this.#entriesMax;
  }

  /** Whether the next entry needs more room. Without it two entries become one, which leaves with the later of them. */
  get isFull(): boolean {
    return this.#ends.length - this.#first >= this.#entriesMax && this.#entriesMax < ENTRIES_PER_WINDOW_MAX;
  }

  grow(entriesMax: number): void {
    this.#entriesMax = Math.min(entriesMax, ENTRIES_PER_WINDOW_MAX);
  }

  /** Keeps the counts under a new rule with the same window length. */
  underRule(rule: RateLimitRule): this {
    assertRule(rule);
    this.#rule = rule;
    return this;
  }

  /** Lets go of the entries that have left. */
  advance(nowMs: number): void {
    const sinceMs = nowMs - this.#windowMs;
    while (this.#total > 0 && this.#endAt(this.#first) <= sinceMs) {
      this.#total -= this.#unitsAt(this.#first);
      this.#first += 1;
    }
    if (this.#total === 0) this.#first = this.#ends.length;
    if (this.#first >= this.#entriesMax || this.#first === this.#ends.length) this.#forgetLeft();
  }

  take(cost: number, nowMs: number): void {
    this.#put(entryEndMs(nowMs, this.#rule), cost);
  }

  /** The limit as it stands. More becomes available when the oldest entry leaves. */
  state(nowMs: number): LimitState {
    return rateState(this.#rule, this.remaining, this.#secondsUntilLeft(this.#first, nowMs));
  }

  /**
   * Whole seconds until this cost fits, if nothing else is taken. For a cost above the limit, the length of the window.
   */
  secondsUntilFits(cost: number, nowMs: number): number {
    const { limit, windowSeconds } = this.#rule;
    if (cost > limit) return windowSeconds;
    let missing = this.#total + cost - limit;
    for (let at = this.#first; at < this.#ends.length; at += 1) {
      missing -= this.#unitsAt(at);
      if (missing <= 0) return this.#secondsUntilLeft(at, nowMs);
    }
    return windowSeconds;
  }

  /** Whether the window is empty. */
  isEmpty(nowMs: number): boolean {
    this.advance(nowMs);
    return this.#total === 0;
  }

  /** When all that is counted will have left. */
  emptyAtMs(nowMs: number): number {
    const end = this.#total === 0 ? undefined : this.#ends.at(-1);
    return end === undefined ? nowMs : end + this.#windowMs;
  }

  #secondsUntilLeft(at: number, nowMs: number): number {
    const end = this.#ends[at];
    return end === undefined ? 0 : secondsUntilEntryLeft(end, this.#rule.windowSeconds, nowMs);
  }

  #endAt(at: number): number {
    return this.#ends[at] ?? 0;
  }

  #unitsAt(at: number): number {
    return this.#units[at] ?? 0;
  }

  get #lastEnd(): number {
    return this.#endAt(this.#ends.length - 1);
  }

  #countedSince(sinceMs: number, nowMs: number): number {
    let units = 0;
    for (let at = this.#first; at < this.#ends.length; at += 1)
      if (Math.min(nowMs, this.#endAt(at)) > sinceMs) units += this.#unitsAt(at);
    return units;
  }

  /** What another window counted is put where it happened at the latest: nothing then leaves too early. */
  #seed(other: SlidingWindow, nowMs: number): void {
    for (let at = other.#first; at < other.#ends.length; at += 1) {
      const usedMs = Math.min(nowMs, other.#endAt(at));
      if (usedMs > nowMs - this.#windowMs) this.#put(entryEndMs(usedMs, this.#rule), other.#unitsAt(at));
    }
  }

  /** Entries are in order: what would come before the last one joins it. */
  #put(endMs: number, units: number): void {
    if (units === 0) return;
    const last = this.#ends.length - 1;
    this.#total += units;
    if (last >= this.#first && endMs <= this.#endAt(last)) {
      this.#units[last] = this.#unitsAt(last) + units;
      return;
    }
    this.#ends.push(endMs);
    this.#units.push(units);
    if (this.#ends.length - this.#first > this.#entriesMax) this.#joinOldest();
  }

  /** Of the two oldest entries the second takes the units of both. */
  #joinOldest(): void {
    const second = this.#first + 1;
    this.#units[second] = this.#unitsAt(second) + this.#unitsAt(this.#first);
    this.#first = second;
    if (this.#first >= this.#entriesMax) this.#forgetLeft();
  }

  #forgetLeft(): void {
    this.#ends.splice(0, this.#first);
    this.#units.splice(0, this.#first);
    this.#first = 0;
  }
}

/** Asserts a valid rule: with a limit that is not a number everything would be admitted. */
export function assertRule({ limit, windowSeconds }: RateLimitRule): void {
  invariant(Number.isInteger(limit) && limit >= 0 && limit <= RATE_LIMIT_MAX, 'a rate limit is a whole number');
  const isWindow = Number.isInteger(windowSeconds) && windowSeconds >= 1 && windowSeconds <= WINDOW_SECONDS_MAX;
  invariant(isWindow, 'a window is a whole number of seconds');
}
