import { expect, test } from 'vitest';
import { type Clock, DAY_MS } from '../foundation/clock.ts';
import { pruneUsage, SLICES_MAX } from './usage-retention.ts';
import { ROWS_AT_ONCE_MAX, type UsageStep } from './usage-rows.ts';
import { USAGE_KEPT_MS } from './usage-steps.ts';

const NOW = Date.UTC(2030, 5, 1);
const CLOCK: Clock = { now: () => NOW, monotonicMs: () => 0 };
const STEPS = Object.keys(USAGE_KEPT_MS) as UsageStep[];

/** The port as its doc comments promise it, over how many rows of each step are too old. */
function setUp(old: Partial<Record<UsageStep, number>> = {}) {
  const left: Record<UsageStep, number> = { minute: 0, hour: 0, day: 0, ...old };
  const asked: { step: UsageStep; before: number; limit: number }[] = [];
  const rows = {
    prune: async (step: UsageStep, before: number, limit: number) => {
      asked.push({ step, before, limit });
      const deleted = Math.min(limit, left[step]);
      left[step] -= deleted;
      return deleted;
    },
  };
  return { rows, left, asked };
}

const isEnding = (): boolean => false;

test('each step is deleted when it is no longer kept, a day after it can last be requested, a few rows at a time', async () => {
  const { rows, left, asked } = setUp({ minute: 1_200, hour: 500, day: 3 });
  expect(await pruneUsage(rows, CLOCK, isEnding)).toBe(1_703);
  expect(left).toEqual({ minute: 0, hour: 0, day: 0 });
  for (const { step, before, limit } of asked) {
    expect(before).toBe(NOW - USAGE_KEPT_MS[step] - DAY_MS);
    expect(limit).toBe(ROWS_AT_ONCE_MAX);
  }
  expect(new Set(asked.map(({ step }) => step))).toEqual(new Set(STEPS));
  expect(await pruneUsage(rows, CLOCK, isEnding)).toBe(0);
});

test.each<[string, Partial<Clock>]>([
  ['is in doubt', { doubted: NOW }],
  ['may be ahead', { mayBeAheadForMs: 1 }],
])('nothing is deleted by a clock that %s', async (_what, more) => {
  const { rows, asked } = setUp({ minute: 10 });
  expect(await pruneUsage(rows, { ...CLOCK, ...more }, isEnding)).toBe(0);
  expect(asked).toEqual([]);
  expect(await pruneUsage(rows, { ...CLOCK, doubted: null, mayBeAheadForMs: 0 }, isEnding)).toBe(10);
});

test('a backlog is deleted in several runs, and every step is deleted in the end', async () => {
  const { rows, left, asked } = setUp({ minute: ROWS_AT_ONCE_MAX * SLICES_MAX + 10, day: 7 });
  await pruneUsage(rows, CLOCK, isEnding);
  expect(asked).toHaveLength(SLICES_MAX);
  await pruneUsage(rows, CLOCK, isEnding);
  expect(left).toEqual({ minute: 0, hour: 0, day: 0 });
});
