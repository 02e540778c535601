import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RATE_LIMIT_MAX, WINDOW_SECONDS_MAX } from '../../domain/limits.ts';
import { EXACT_LIMIT_MAX, partMsOf } from '../rate-limiter.ts';
import { SlidingWindow } from './sliding-window.ts';

interface Admitted {
  readonly atMs: number;
  readonly units: number;
}

const sumSince = (admitted: readonly Admitted[], sinceMs: number): number =>
  admitted.reduce((sum, { atMs, units }) => (atMs > sinceMs ? sum + units : sum), 0);

const windowSeconds = fc.constantFrom(1, 3, 60, 61, 3_600);
/** Steps around a part and around a window, where mistakes would be. */
const steps = (window: number): fc.Arbitrary<readonly (readonly [number, number])[]> => {
  const windowMs = window * 1_000;
  const advanceMs = fc.oneof(
    fc.constantFrom(0, 1, partMsOf(window), windowMs - 1, windowMs, windowMs + 1, windowMs * 5),
    fc.integer({ min: 0, max: Math.ceil(windowMs / 20) }),
  );
  return fc.array(fc.tuple(advanceMs, fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 20, max: 60 }))), {
    minLength: 20,
    maxLength: 200,
  });
};
const scenario = windowSeconds.chain((window) =>
  fc.tuple(
    fc.constant(window),
    fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 0, max: 12 }) },
      { weight: 1, arbitrary: fc.integer({ min: 129, max: 300 }) },
    ),
    steps(window),
  ),
);

function ask(window: SlidingWindow, atMs: number, units: number): boolean {
  window.advance(atMs);
  if (units > window.remaining) return false;
  window.take(units, atMs);
  return true;
}

describe('against an exact log of what was admitted', () => {
  test('no window admits more than the limit, and a denied request would have exceeded it', () => {
    fc.assert(
      fc.property(scenario, ([seconds, limit, requests]) => {
        const windowMs = seconds * 1_000;
        const window = new SlidingWindow({ name: 'w', limit, windowSeconds: seconds });
        const admitted: Admitted[] = [];
        // Of a large limit a use may leave one part late.
        const lateMs = limit <= EXACT_LIMIT_MAX ? 0 : partMsOf(seconds);
        let atMs = 0;
        for (const [advanceMs, units] of requests) {
          atMs += advanceMs;
          if (ask(window, atMs, units)) {
            admitted.push({ atMs, units });
            expect(sumSince(admitted, atMs - windowMs)).toBeLessThanOrEqual(limit);
          } else {
            expect(sumSince(admitted, atMs - windowMs - lateMs) + units).toBeGreaterThan(limit);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('with less memory it admits no more, and what it denies is admitted a window later at the latest', () => {
    fc.assert(
      fc.property(scenario, ([seconds, limit, requests]) => {
        const windowMs = seconds * 1_000;
        const window = new SlidingWindow({ name: 'w', limit, windowSeconds: seconds }, 2);
        const admitted: Admitted[] = [];
        let atMs = 0;
        for (const [advanceMs, units] of requests) {
          atMs += advanceMs;
          if (ask(window, atMs, units)) admitted.push({ atMs, units });
          expect(sumSince(admitted, atMs - windowMs)).toBeLessThanOrEqual(limit);
        }
        expect(window.isEmpty(atMs + windowMs + partMsOf(seconds))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ['once in 30 seconds', 1, 30],
    ['ten times a second', 10, 1],
    [`${EXACT_LIMIT_MAX} times a minute`, EXACT_LIMIT_MAX, 60],
  ])('a client that keeps exactly to its limit is never denied: %s', (_what, limit, seconds) => {
    const window = new SlidingWindow({ name: 'w', limit, windowSeconds: seconds });
    const spacingMs = Math.ceil((seconds * 1_000) / limit);
    for (let nth = 0; nth < 3 * limit + 3; nth += 1) expect(ask(window, nth * spacingMs, 1)).toBe(true);
    // And no more than that.
    const nowMs = (3 * limit + 2) * spacingMs;
    while (ask(window, nowMs, 1));
    expect(window.counted).toBe(limit);
  });

  test('under a large limit such a client gets 99.5 %', () => {
    const limit = 1_000;
    const window = new SlidingWindow({ name: 'w', limit, windowSeconds: 1 });
    let admitted = 0;
    for (let atMs = 0; atMs < 20_000; atMs += 1) if (ask(window, atMs, 1)) admitted += 1;
    expect(admitted / 20_000).toBeGreaterThanOrEqual(0.995);
  });

  test('a client that waits the given time is admitted, and one that comes a second earlier is not', () => {
    fc.assert(
      fc.property(scenario, fc.integer({ min: 1, max: 4 }), ([seconds, limit, requests], units) => {
        fc.pre(units <= limit);
        const window = new SlidingWindow({ name: 'w', limit, windowSeconds: seconds });
        let atMs = 0;
        for (const [advanceMs, cost] of requests) {
          atMs += advanceMs;
          ask(window, atMs, cost);
        }
        window.advance(atMs);
        fc.pre(units > window.remaining);
        const waitMs = window.secondsUntilFits(units, atMs) * 1_000;
        expect(window.state(atMs).resetSeconds * 1_000).toBeLessThanOrEqual(waitMs);
        window.advance(atMs + waitMs - 1_000);
        expect(window.remaining).toBeLessThan(units);
        window.advance(atMs + waitMs);
        expect(window.remaining).toBeGreaterThanOrEqual(units);
      }),
      { numRuns: 300 },
    );
  });

  test('a changed rule admits no more than the new limit in any window of the new length, past ones included', () => {
    fc.assert(
      fc.property(scenario, scenario, ([before, limitBefore, first], [after, limitAfter, second]) => {
        fc.pre(before >= after);
        const admitted: Admitted[] = [];
        let atMs = 0;
        const old = new SlidingWindow({ name: 'old', limit: limitBefore, windowSeconds: before });
        for (const [advanceMs, units] of first) {
          atMs += advanceMs;
          if (ask(old, atMs, units)) admitted.push({ atMs, units });
        }
        const window = SlidingWindow.seededFrom({ name: 'new', limit: limitAfter, windowSeconds: after }, [old], atMs);
        for (const [advanceMs, units] of second) {
          atMs += advanceMs;
          if (units === 0 || !ask(window, atMs, units)) continue;
          admitted.push({ atMs, units });
          expect(sumSince(admitted, atMs - after * 1_000)).toBeLessThanOrEqual(limitAfter);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('what a window reports', () => {
  const rule = { name: 'burst', limit: 5, windowSeconds: 60 };

  test('is the whole limit for an unused window', () => {
    expect(new SlidingWindow(rule).state(0)).toEqual({ kind: 'rate', ...rule, remaining: 5, resetSeconds: 0 });
  });

  test('increases when the oldest slot leaves', () => {
    const window = new SlidingWindow(rule);
    ask(window, 10_500, 2);
    ask(window, 20_000, 1);
    expect(window.state(20_000)).toMatchObject({ remaining: 2, resetSeconds: 51 });
    window.advance(70_500);
    expect(window.state(70_500)).toMatchObject({ remaining: 4, resetSeconds: 10 });
  });

  test('is the length of the window as the time to wait for a cost above the limit', () => {
    expect(new SlidingWindow(rule).secondsUntilFits(6, 0)).toBe(60);
  });

  test('does not increase while time stands still or goes back', () => {
    const window = new SlidingWindow(rule);
    ask(window, 100_000, 5);
    expect(ask(window, 99_000, 1)).toBe(false);
    expect(ask(window, 0, 1)).toBe(false);
  });

  test('is never less than zero after the limit was lowered, and checking is still admitted', () => {
    const window = new SlidingWindow(rule);
    ask(window, 0, 5);
    window.underRule({ ...rule, limit: 2 });
    expect(window.remaining).toBe(0);
    expect(ask(window, 0, 0)).toBe(true);
    expect(window.secondsUntilFits(1, 0)).toBe(60);
    expect(window.isEmpty(59_999)).toBe(false);
    expect(window.isEmpty(60_000)).toBe(true);
  });
});

describe('the counts that a new rule takes over', () => {
  const rule = (name: string, seconds: number) => ({ name, limit: 100, windowSeconds: seconds });

  test('are those of the shortest window that is long enough', () => {
    const short = new SlidingWindow(rule('short', 1));
    const long = new SlidingWindow(rule('long', 3_600));
    const middle = new SlidingWindow(rule('middle', 60));
    for (const window of [short, long, middle]) ask(window, 0, 3);
    for (const window of [short, long, middle]) window.advance(30_000);
    ask(middle, 30_000, 4);
    const learned = SlidingWindow.seededFrom(rule('new', 10), [short, long, middle], 30_000);
    expect(learned.remaining).toBe(96);
  });

  test('are those of the longest window if the new one is longer than all', () => {
    const short = new SlidingWindow(rule('short', 1));
    const middle = new SlidingWindow(rule('middle', 60));
    for (const window of [short, middle]) ask(window, 0, 3);
    expect(SlidingWindow.seededFrom(rule('new', 3_600), [middle, short], 30_000).remaining).toBe(97);
  });

  test('are none without another window', () => {
    expect(SlidingWindow.seededFrom(rule('new', 60), [], 0).remaining).toBe(100);
  });
});

test('an invalid rule is never counted', () => {
  const sound = { name: 'w', limit: 1, windowSeconds: 1 };
  for (const limit of [-1, 0.5, Number.NaN, RATE_LIMIT_MAX + 1]) {
    expect(() => new SlidingWindow({ ...sound, limit })).toThrow('Invariant');
    expect(() => new SlidingWindow(sound).underRule({ ...sound, limit })).toThrow('Invariant');
  }
  for (const windowSeconds of [0, -1, 0.5, Number.NaN, WINDOW_SECONDS_MAX + 1]) {
    expect(() => new SlidingWindow({ ...sound, windowSeconds })).toThrow('Invariant');
  }
});
