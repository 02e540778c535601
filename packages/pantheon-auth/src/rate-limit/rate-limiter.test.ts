import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  assertCost,
  COST_MAX,
  EXACT_LIMIT_MAX,
  entryEndMs,
  partMsOf,
  periodAt,
  quotaState,
  rateState,
  secondsUntil,
  secondsUntilEntryLeft,
} from './rate-limiter.ts';

/** Seventy years of uptime. */
const wholeMs = fc.integer({ min: 0, max: 2 ** 41 });
const windowSeconds = fc.oneof(fc.constantFrom(1, 7, 60, 61, 3_600, 86_400), fc.integer({ min: 1, max: 2_678_400 }));

describe('the moment for which a use is counted', () => {
  const limits = fc.constantFrom(0, 1, EXACT_LIMIT_MAX, EXACT_LIMIT_MAX + 1, 1_000_000);

  test('is never before it, and under a large limit at most one part of the window after it', () => {
    fc.assert(
      fc.property(wholeMs, windowSeconds, limits, (atMs, seconds, limit) => {
        const lateMs = entryEndMs(atMs, { name: 'w', limit, windowSeconds: seconds }) - atMs;
        expect(lateMs).toBeGreaterThanOrEqual(0);
        expect(lateMs).toBeLessThan(limit <= EXACT_LIMIT_MAX ? 1 : partMsOf(seconds));
        expect(Number.isSafeInteger(lateMs)).toBe(true);
      }),
    );
  });

  test('the time to wait is enough, and not a second too long', () => {
    fc.assert(
      fc.property(wholeMs, windowSeconds, (nowMs, seconds) => {
        const wait = secondsUntilEntryLeft(nowMs, seconds, nowMs + 7) * 1_000;
        expect(nowMs + 7 + wait).toBeGreaterThanOrEqual(nowMs + seconds * 1_000);
        expect(nowMs + 7 + wait - 1_000).toBeLessThan(nowMs + seconds * 1_000);
      }),
    );
    expect(secondsUntilEntryLeft(0, 1, 1_000_000)).toBe(0);
  });
});

describe('periods of a quota', () => {
  const at = (iso: string): number => Date.parse(iso);

  test.each([
    ['2026-11-22T00:00:00.000Z', '2026-11-22', '2026-11'],
    ['2026-11-22T23:59:59.999Z', '2026-11-22', '2026-11'],
    ['2028-02-29T12:00:00.000Z', '2028-02-29', '2028-02'],
    ['2026-12-31T23:59:59.999Z', '2026-12-31', '2026-12'],
    ['1969-12-31T23:59:59.999Z', '1969-12-31', '1969-12'],
  ])('%s lies in %s and %s', (iso, day, month) => {
    expect(periodAt('day', at(iso)).name).toBe(day);
    expect(periodAt('month', at(iso)).name).toBe(month);
  });

  test('periods follow each other without a gap, each with a unique name that sorts after the previous one', () => {
    const instant = fc.integer({ min: at('1971-01-01T00:00Z'), max: at('9998-12-31T00:00Z') });
    fc.assert(
      fc.property(instant, fc.constantFrom('day', 'month'), (now, kind) => {
        const period = periodAt(kind, now);
        expect(period.startsAt).toBeLessThanOrEqual(now);
        expect(period.endsAt).toBeGreaterThan(now);
        expect(periodAt(kind, period.endsAt - 1)).toEqual(period);
        const next = periodAt(kind, period.endsAt);
        expect(next.startsAt).toBe(period.endsAt);
        expect(next.name > period.name).toBe(true);
      }),
    );
  });

  test('a quota is reported with the length of its own month and the time to its end', () => {
    const now = at('2028-02-28T23:59:59.500Z');
    expect(quotaState(10, 3, periodAt('month', now), now)).toEqual({
      kind: 'quota',
      name: 'quota',
      limit: 10,
      remaining: 3,
      resetSeconds: 86_401,
      windowSeconds: 29 * 86_400,
    });
  });
});

test('a reported reset never passes the window', () => {
  const rule = { name: 'burst', limit: 5, windowSeconds: 60 };
  expect(rateState(rule, 2, 61)).toMatchObject({ kind: 'rate', name: 'burst', remaining: 2, resetSeconds: 60 });
});

test('waiting is rounded up and never negative', () => {
  expect([secondsUntil(1_001, 1), secondsUntil(1_002, 1), secondsUntil(1, 1), secondsUntil(0, 5_000)]).toEqual([
    1, 2, 0, 0,
  ]);
});

test('a cost is a whole number within its bound; other values are refused', () => {
  for (const cost of [0, 1, COST_MAX]) expect(() => assertCost(cost)).not.toThrow();
  for (const cost of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, COST_MAX + 1]) {
    expect(() => assertCost(cost)).toThrow(expect.objectContaining({ code: 'invalid_request', field: 'cost' }));
  }
});
