/** The windows of the rules of a key when these change: what was counted goes on, so that a change grants nothing anew. */
import type { RateLimitRule } from '../../domain/limits.ts';
import { SlidingWindow } from './sliding-window.ts';

/** Windows of rules that a key no longer has. They are kept until what they count has left: a rule may come back. */
export const FORMER_WINDOWS_MAX = 8;

export interface RuleWindows {
  /** In the order of the rules. */
  readonly windows: readonly SlidingWindow[];
  /** Of rules that the key had before, and that still count something. */
  readonly former: readonly SlidingWindow[];
}

/**
 * A rule of the same name and window goes on with its counts, whatever its limit is now. A new one learns from the others.
 * `entriesMax`: what a new one has room for.
 */
export function windowsOf(
  rules: readonly RateLimitRule[],
  { windows, former }: RuleWindows,
  nowMs: number,
  entriesMax?: number,
): RuleWindows {
  const before = [...windows, ...former];
  const after = rules.map((rule) => {
    const same = before.find((window) => isOf(rule, window));
    return same?.underRule(rule) ?? SlidingWindow.seededFrom(rule, before, nowMs, entriesMax);
  });
  const gone = before.filter((window) => !after.includes(window) && !window.isEmpty(nowMs));
  return { windows: after, former: gone.sort(byReach).slice(0, FORMER_WINDOWS_MAX) };
}

/** Whether a window counts a rule, whatever the limit is. */
export function isOf(rule: RateLimitRule, { rule: { name, windowSeconds } }: SlidingWindow): boolean {
  return name === rule.name && windowSeconds === rule.windowSeconds;
}

/** Those that look back furthest are kept: most can be learned from them. */
function byReach({ rule: a }: SlidingWindow, { rule: b }: SlidingWindow): number {
  return b.windowSeconds - a.windowSeconds || (a.name < b.name ? -1 : 1);
}
