/**
 * One rate limit of one key in memory: a ring of sub-slots that never holds more than the limit in *any* window. The
 * caller advances it to now, asks, and only then takes.
 */
import { type LimitState, RATE_LIMIT_MAX, type RateLimitRule, WINDOW_SECONDS_MAX } from '../../domain/limits.ts';
import { invariant } from '../../foundation/errors.ts';
import { rateState, SLOTS_COUNTED, secondsUntilSlotLeft, slotAt, slotStartMs } from '../rate-limiter.ts';

/** All times are whole milliseconds of one monotonic clock that began at 0. */
export class SlidingWindow {
  #rule: RateLimitRule;
  /** A plain array: a typed one this short takes more memory and longer to make. */
  readonly #counts: number[] = new Array<number>(SLOTS_COUNTED).fill(0);
  /** The sum of the ring. */
  #total = 0;
  /** The slot that is filling. */
  #slot: number;
  /** No slot before this one holds anything. */
  #oldest: number;

  constructor(rule: RateLimitRule, nowMs: number) {
    assertRule(rule);
    this.#rule = rule;
    this.#slot = slotAt(nowMs, rule.windowSeconds);
    this.#oldest = this.#slot;
  }

  /**
   * A window for a new rule, filled with what windows of other lengths know, so that changing a rule grants nothing
   * anew. Of several it asks the shortest that looks back far enough, which is the most exact, else the longest.
   */
  static seededFrom(rule: RateLimitRule, others: readonly SlidingWindow[], nowMs: number): SlidingWindow {
    const window = new SlidingWindow(rule, nowMs);
    const byLength = others.toSorted((a, b) => a.#rule.windowSeconds - b.#rule.windowSeconds);
    const source = byLength.find((other) => other.#rule.windowSeconds >= rule.windowSeconds) ?? byLength.at(-1);
    if (source !== undefined) window.#seed(source, nowMs);
    return window;
  }

  get rule(): RateLimitRule {
    return this.#rule;
  }

  /** Units that fit now. Never below zero, also when the limit was lowered under what is counted. */
  get remaining(): number {
    return Math.max(0, this.#rule.limit - this.#total);
  }

  /** Units in the window now, whatever the limit is. */
  get counted(): number {
    return this.#total;
  }

  /** Goes on with the same counts under a rule of the same window. */
  underRule(rule: RateLimitRule): this {
    assertRule(rule);
    this.#rule = rule;
    return this;
  }

  /** Lets go of the slots that have wholly left. */
  advance(nowMs: number): void {
    const slot = slotAt(nowMs, this.#rule.windowSeconds);
    if (slot <= this.#slot) return;
    this.#slot = slot;
    if (this.#total === 0) {
      this.#oldest = slot;
      return;
    }
    while (this.#oldest <= slot - SLOTS_COUNTED && this.#total > 0) {
      this.#total -= this.#at(this.#oldest);
      this.#counts[this.#oldest % SLOTS_COUNTED] = 0;
      this.#oldest += 1;
    }
    if (this.#total === 0) this.#oldest = slot;
    else while (this.#at(this.#oldest) === 0) this.#oldest += 1;
  }

  take(cost: number): void {
    this.#counts[this.#slot % SLOTS_COUNTED] = this.#at(this.#slot) + cost;
    this.#total += cost;
  }

  /** The limit as it stands. More becomes available when the oldest slot leaves. */
  state(nowMs: number): LimitState {
    const { windowSeconds } = this.#rule;
    const resetSeconds = this.#total === 0 ? 0 : secondsUntilSlotLeft(this.#oldest, windowSeconds, nowMs);
    return rateState(this.#rule, this.remaining, resetSeconds);
  }

  /** Whole seconds until this cost fits, if nothing else is taken. What can never fit is told to wait for a window. */
  secondsUntilFits(cost: number, nowMs: number): number {
    const { limit, windowSeconds } = this.#rule;
    if (cost > limit) return windowSeconds;
    let missing = this.#total + cost - limit;
    for (let slot = this.#oldest; slot <= this.#slot; slot += 1) {
      missing -= this.#at(slot);
      if (missing <= 0) return secondsUntilSlotLeft(slot, windowSeconds, nowMs);
    }
    return windowSeconds;
  }

  /** Whether all that was counted has left. */
  isEmpty(nowMs: number): boolean {
    this.advance(nowMs);
    return this.#total === 0;
  }

  /** Puts what another window counted where it happened at the latest: nothing then leaves too early. */
  #seed(other: SlidingWindow, nowMs: number): void {
    const { windowSeconds } = this.#rule;
    for (let slot = other.#oldest; slot <= other.#slot; slot += 1) {
      const units = other.#at(slot);
      const latestMs = Math.min(nowMs, slotStartMs(slot + 1, other.#rule.windowSeconds) - 1);
      const mine = slotAt(latestMs, windowSeconds);
      if (units === 0 || mine <= this.#slot - SLOTS_COUNTED) continue;
      this.#counts[mine % SLOTS_COUNTED] = this.#at(mine) + units;
      this.#total += units;
      this.#oldest = Math.min(this.#oldest, mine);
    }
  }

  #at(slot: number): number {
    return this.#counts[slot % SLOTS_COUNTED] ?? 0;
  }
}

/** A limit that is not a number would let everything through, so nothing but a sound rule is counted. */
export function assertRule({ limit, windowSeconds }: RateLimitRule): void {
  invariant(Number.isInteger(limit) && limit >= 0 && limit <= RATE_LIMIT_MAX, 'a rate limit is a whole number');
  const isWindow = Number.isInteger(windowSeconds) && windowSeconds >= 1 && windowSeconds <= WINDOW_SECONDS_MAX;
  invariant(isWindow, 'a window is a whole number of seconds');
}
