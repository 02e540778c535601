import { expect, test } from 'vitest';
import { type Clock, DAY_MS } from '../foundation/clock.ts';
import { ANSWERS_AT_ONCE_MAX, pruneAnswers } from './answer-retention.ts';

const NOW = Date.UTC(2030, 0, 1);
const CLOCK: Clock = { now: () => NOW, monotonicMs: () => 0 };
const isEnding = (): boolean => false;

function setUp(old: number) {
  const asked: [number, number][] = [];
  let left = old;
  const rows = {
    prune: async (before: number, limit: number) => {
      asked.push([before, limit]);
      const deleted = Math.min(limit, left);
      left -= deleted;
      return deleted;
    },
  };
  return { rows, asked };
}

test('idempotency records are deleted a day after their answer, a few at a time, until none is left', async () => {
  const { rows, asked } = setUp(ANSWERS_AT_ONCE_MAX + 1);
  await pruneAnswers(rows, CLOCK, isEnding);
  expect(asked).toEqual(Array.from({ length: 2 }, () => [NOW - DAY_MS, ANSWERS_AT_ONCE_MAX]));
});

test('a run is bounded, and ends when it is aborted', async () => {
  const { rows, asked } = setUp(Number.POSITIVE_INFINITY);
  await pruneAnswers(rows, CLOCK, () => asked.length === 3);
  expect(asked).toHaveLength(3);
  await pruneAnswers(rows, CLOCK, isEnding);
  expect(asked).toHaveLength(1_003);
});

test.each<[string, Partial<Clock>]>([
  ['is in doubt', { doubted: NOW }],
  ['may be ahead', { mayBeAheadForMs: 1 }],
])('nothing is deleted by a clock that %s', async (_what, more) => {
  const { rows, asked } = setUp(10);
  await pruneAnswers(rows, { ...CLOCK, ...more }, isEnding);
  expect(asked).toEqual([]);
});
