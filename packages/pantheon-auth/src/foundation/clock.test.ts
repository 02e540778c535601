import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TestClock } from '../testing/test-clock.ts';
import {
  assertCertainTime,
  CLOCK_DOUBT_MS,
  CLOCK_JUMP_MS,
  type Clock,
  DAY_MS,
  earlier,
  HOUR_MS,
  type Instant,
  isTimeCertain,
  MINUTE_MS,
  momentOf,
  NonDecreasingClock,
  systemClock,
} from './clock.ts';

const START = Date.UTC(2030, 0, 1);

function forward(): { source: TestClock; clock: NonDecreasingClock; jumps: number[] } {
  const source = new TestClock(START);
  const jumps: number[] = [];
  return { source, clock: new NonDecreasingClock(source, { onSetBack: (byMs) => jumps.push(byMs) }), jumps };
}

test('the system clock has wall time and monotonic time', () => {
  expect(Number.isInteger(systemClock.now())).toBe(true);
  const before = systemClock.monotonicMs();
  expect(systemClock.monotonicMs()).toBeGreaterThanOrEqual(before);
});

test('a moment contains the time of both clocks', () => {
  const clock = new TestClock(START);
  clock.advance(5);
  clock.setWall(7);
  expect(momentOf(clock)).toEqual({ monotonicMs: 5, wallMs: 7 });
});

test.each([
  [1, 2, 1],
  [2, 1, 1],
  [1, null, 1],
  [null, 1, 1],
  [0, null, 0],
  [null, null, null],
])('what ends at %j and at %j ends at %j', (one, other, end) => {
  expect(earlier(one, other)).toBe(end);
});

describe('the non-decreasing clock (I14)', () => {
  test('follows the wall clock while it goes forward, also over a jump of minutes', () => {
    const { source, clock, jumps } = forward();
    source.advance(10);
    expect(clock.now()).toBe(START + 10);
    source.setWall(START + CLOCK_DOUBT_MS);
    expect(clock.now()).toBe(START + CLOCK_DOUBT_MS);
    expect([jumps, clock.doubted]).toEqual([[], null]);
  });

  test('does not go back before an expiry when the wall clock is set back', () => {
    const { source, clock } = forward();
    const expiresAt = START + HOUR_MS;
    source.advance(HOUR_MS);
    expect(clock.now() >= expiresAt).toBe(true);
    source.setWall(START - DAY_MS);
    expect(clock.now() >= expiresAt).toBe(true);
    expect(new NonDecreasingClock(source).now() >= expiresAt).toBe(false); // Without memory it would.
  });

  test('stands still after a small step back, without a report', () => {
    const { source, clock, jumps } = forward();
    source.setWall(START - CLOCK_JUMP_MS);
    expect(clock.now()).toBe(START);
    source.advance(CLOCK_JUMP_MS - 1);
    expect(clock.now()).toBe(START);
    source.advance(2);
    expect(clock.now()).toBe(START + 1);
    expect(jumps).toEqual([]);
  });

  test('continues at the monotonic rate after a large step back, and reports it once', () => {
    const { source, clock, jumps } = forward();
    source.setWall(START - HOUR_MS);
    expect(clock.now()).toBe(START);
    source.advance(1_500.5);
    expect(clock.now()).toBe(START + 1_500);
    source.advance(HOUR_MS);
    expect(clock.now()).toBe(START + HOUR_MS + 1_500);
    expect(jumps).toEqual([-HOUR_MS]);
  });

  test('counts time during which it was not read', () => {
    const { source, clock } = forward();
    source.setWall(START - HOUR_MS);
    clock.now();
    source.advance(2 * HOUR_MS);
    expect(clock.now()).toBe(START + 2 * HOUR_MS);
  });

  test('stands still when the wall clock has nearly caught up', () => {
    const { source, clock } = forward();
    source.setWall(START - HOUR_MS);
    clock.now();
    source.setWall(START - 2);
    expect(clock.now()).toBe(START);
    source.advance(1);
    expect(clock.now()).toBe(START);
    source.advance(2);
    expect(clock.now()).toBe(START + 1);
  });

  test('follows the wall clock again once that has caught up, and reports the next jump too', () => {
    const { source, clock, jumps } = forward();
    source.setWall(START - HOUR_MS);
    clock.now();
    source.setWall(START + 5);
    expect(clock.now()).toBe(START + 5);
    source.setWall(START - DAY_MS);
    clock.now();
    expect(jumps).toEqual([-HOUR_MS, -DAY_MS - 5]);
  });

  test('is at least as late as the log, and continues from there', () => {
    const { source, clock, jumps } = forward();
    clock.advanceTo(START + MINUTE_MS);
    expect(clock.now()).toBe(START + MINUTE_MS);
    source.advance(250);
    expect(clock.now()).toBe(START + MINUTE_MS + 250);
    expect(jumps).toEqual([-MINUTE_MS]);
  });

  test('is not set back by an older log', () => {
    const { clock } = forward();
    clock.advanceTo(START - HOUR_MS);
    expect(clock.now()).toBe(START);
  });

  test('continues from the time of the log also while the wall clock is behind', () => {
    const { source, clock } = forward();
    source.setWall(START - DAY_MS);
    clock.now();
    clock.advanceTo(START + MINUTE_MS);
    source.advance(40);
    expect(clock.now()).toBe(START + MINUTE_MS + 40);
  });

  test('keeps counting time during which it was not read when the log sets it', () => {
    const { source, clock } = forward();
    source.setWall(START - DAY_MS);
    clock.now();
    source.advance(HOUR_MS);
    clock.advanceTo(START + 1);
    expect(clock.now()).toBe(START + HOUR_MS);
  });

  test('returns monotonic time unchanged', () => {
    const { source, clock } = forward();
    source.advance(7);
    source.setWall(0);
    expect(clock.monotonicMs()).toBe(7);
  });

  test('never goes back, is a whole number, and is behind the wall clock or the log only in doubt, for any inputs', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('pass'), ms: fc.integer({ min: 0, max: 20_000 }) }),
      fc.record({ kind: fc.constant('set'), ms: fc.integer({ min: -DAY_MS, max: DAY_MS }) }),
      fc.record({ kind: fc.constant('log'), ms: fc.integer({ min: -DAY_MS, max: DAY_MS }) }),
    );
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const { source, clock } = forward();
        let last: Instant = clock.now();
        for (const { kind, ms } of steps) {
          if (kind === 'pass') source.advance(ms);
          if (kind === 'set') source.setWall(START + ms);
          if (kind === 'log') clock.advanceTo(START + ms);
          const before = last;
          last = clock.now();
          const told = clock.doubted === null ? Math.max(source.now(), kind === 'log' ? START + ms : before) : before;
          expect(last).toBeGreaterThanOrEqual(Math.max(before, told));
          // No single step carries it further than the stopwatch and what is believed of a jump.
          expect(last - before).toBeLessThanOrEqual((kind === 'pass' ? ms : 0) + CLOCK_DOUBT_MS + 1);
          expect(Number.isInteger(last)).toBe(true);
        }
      }),
    );
  });

  test('does not stand still for longer than a small step', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -DAY_MS, max: DAY_MS }), { maxLength: 8 }), (walls) => {
        const { source, clock } = forward();
        for (const wall of walls) {
          source.setWall(START + wall);
          clock.now();
        }
        const before = clock.now();
        source.advance(CLOCK_JUMP_MS + 1);
        expect(clock.now()).toBeGreaterThan(before);
      }),
    );
  });
});

describe('beside the clock of the store (I14)', () => {
  function beside(): { source: TestClock; clock: NonDecreasingClock; apart: number[] } {
    const source = new TestClock(START);
    const apart: number[] = [];
    return { source, clock: new NonDecreasingClock(source, { onSkew: (byMs) => apart.push(byMs) }), apart };
  }

  test('a clock that may be ahead is so for a period of monotonic time, or until an operator decides', () => {
    const { source, clock } = beside();
    clock.suspectAhead(HOUR_MS);
    source.setWall(START + MINUTE_MS);
    expect([clock.mayBeAheadForMs, isTimeCertain(clock)]).toEqual([HOUR_MS, false]);
    source.advance(HOUR_MS - 1);
    expect([clock.mayBeAheadForMs, isTimeCertain(clock)]).toEqual([1, false]);
    source.advance(1);
    expect([clock.mayBeAheadForMs, isTimeCertain(clock)]).toEqual([0, true]);
    clock.suspectAhead(HOUR_MS);
    clock.accept(source.now());
    expect(isTimeCertain(clock)).toBe(true);
  });

  test('the period in which a clock may be ahead is a whole number of milliseconds, whatever the monotonic clock returns', () => {
    let mono = 0.25;
    const clock = new NonDecreasingClock({ now: () => START, monotonicMs: () => mono });
    clock.suspectAhead(10);
    mono = 5.125;
    expect(clock.mayBeAheadForMs).toBe(6);
    mono = 10.24;
    expect(isTimeCertain(clock)).toBe(false);
    mono = 10.25;
    expect(isTimeCertain(clock)).toBe(true);
  });

  test('an answer of the store that took longer than the clocks differ leaves the clock unchanged', () => {
    const { source, clock, apart } = beside();
    clock.syncTo(START - 60_000, 60_000);
    expect([apart, clock.isSkewed, clock.now()]).toEqual([[], false, source.now()]);
  });

  test('small differences are corrected by the least possible amount, without a report', () => {
    const { clock, apart } = beside();
    clock.syncTo(START + 40, 10);
    expect(clock.now()).toBe(START + 40);
    clock.syncTo(START + 35, 10);
    expect(clock.now()).toBe(START + 40);
    clock.syncTo(START + CLOCK_JUMP_MS, 0);
    expect([apart, clock.isSkewed, clock.now()]).toEqual([[], false, START + CLOCK_JUMP_MS]);
  });

  test('while the clocks differ much the time of the store is used; the beginning and the end are reported', () => {
    const { source, clock, apart } = beside();
    clock.syncTo(START, 0);
    clock.syncTo(START + MINUTE_MS, 0);
    clock.syncTo(START + MINUTE_MS, 0);
    expect([apart, clock.isSkewed, clock.now()]).toEqual([[MINUTE_MS], true, START + MINUTE_MS]);
    source.setWall(START + MINUTE_MS);
    clock.syncTo(START + MINUTE_MS, 0);
    expect([apart, clock.isSkewed, clock.now()]).toEqual([[MINUTE_MS, 0], false, START + MINUTE_MS]);
  });

  test('nothing is deleted for its age while the clocks differ much', () => {
    const { source, clock } = beside();
    clock.syncTo(START, 0);
    clock.syncTo(START + MINUTE_MS, 0);
    expect(isTimeCertain(clock)).toBe(false);
    source.setWall(START + MINUTE_MS);
    clock.syncTo(START + MINUTE_MS, 0);
    expect(isTimeCertain(clock)).toBe(true);
  });

  test('a machine whose clock jumps while that of the store does not uses the time of the store, and nothing is in doubt', () => {
    const { source, clock } = beside();
    clock.syncTo(START, 0);
    source.setWall(START + DAY_MS);
    clock.syncTo(START, 0);
    expect([clock.now(), clock.doubted, clock.isSkewed]).toEqual([START, null, true]);
  });

  test('a store whose clock jumps is not followed, and the time is in doubt until it is back', () => {
    const { source, clock } = beside();
    clock.syncTo(START, 0);
    clock.syncTo(START + DAY_MS, 0);
    source.advance(MINUTE_MS);
    expect([clock.now(), clock.doubted]).toEqual([START + MINUTE_MS, START + DAY_MS + MINUTE_MS]);
    clock.syncTo(START + MINUTE_MS, 0);
    expect([clock.now(), clock.doubted]).toEqual([START + MINUTE_MS, null]);
  });

  test('a machine that starts with its clock far ahead does not use it for dates', () => {
    const { clock } = beside();
    clock.syncTo(START - DAY_MS, 0);
    expect(clock.now()).toBe(START - DAY_MS);
  });

  test('a later store time does not set the clock back', () => {
    const { clock, source } = beside();
    clock.syncTo(START, 0);
    clock.syncTo(START - DAY_MS, 0);
    expect(clock.now()).toBe(START);
    source.advance(HOUR_MS);
    expect(clock.now()).toBeGreaterThanOrEqual(START);
  });
});

describe('a time in doubt (I14)', () => {
  function watched(): { source: TestClock; clock: NonDecreasingClock; doubts: unknown[] } {
    const source = new TestClock(START);
    const doubts: unknown[] = [];
    return { source, clock: new NonDecreasingClock(source, { onDoubt: (...doubt) => doubts.push(doubt) }), doubts };
  }

  test.each([
    ['ahead', 365 * DAY_MS],
    ['back', -365 * DAY_MS],
  ])('a wall clock that jumps a year %s is not followed and not used for dates until it agrees again', (_way, byMs) => {
    const { source, clock, doubts } = watched();
    source.setWall(START + byMs);
    source.advance(MINUTE_MS);
    expect(clock.now()).toBe(START + MINUTE_MS);
    expect(() => assertCertainTime(clock)).toThrow(expect.objectContaining({ code: 'clock_in_doubt' }));
    source.advance(HOUR_MS);
    expect(clock.now()).toBe(START + MINUTE_MS + HOUR_MS);
    source.setWall(START + MINUTE_MS + HOUR_MS + 3);
    assertCertainTime(clock);
    expect(clock.now()).toBe(START + MINUTE_MS + HOUR_MS + 3);
    expect(doubts).toEqual([
      ['wall', byMs],
      [null, 0],
    ]);
  });

  test('many steps of minutes within an hour count as one jump', () => {
    const { source, clock } = watched();
    for (let step = 1; step <= 4; step += 1) {
      source.advance(MINUTE_MS);
      source.setWall(source.now() + 2 * MINUTE_MS);
      clock.now();
    }
    expect(clock.doubted).not.toBeNull();
  });

  test('steps of minutes in different hours are ordinary corrections', () => {
    const { source, clock } = watched();
    for (let step = 1; step <= 12; step += 1) {
      source.advance(HOUR_MS + MINUTE_MS);
      source.setWall(source.now() + MINUTE_MS);
      clock.now();
    }
    expect([clock.doubted, clock.now()]).toEqual([null, source.now()]);
  });

  test('a machine that has slept has a clock that jumped and is right', () => {
    const source = new TestClock(START);
    let asleepMs = 0;
    const machine: Clock = {
      now: () => source.now(),
      monotonicMs: () => source.monotonicMs(),
      bootMs: () => Math.floor((source.monotonicMs() + asleepMs) / 1_000) * 1_000,
    };
    const clock = new NonDecreasingClock(machine);
    asleepMs = 8 * HOUR_MS;
    source.setWall(START + asleepMs);
    expect([clock.now(), clock.doubted]).toEqual([START + asleepMs, null]);
    source.setWall(START + DAY_MS);
    source.advance(MINUTE_MS);
    expect([clock.now(), clock.doubted]).toEqual([START + asleepMs + MINUTE_MS, START + DAY_MS + MINUTE_MS]);
  });

  test('a log far in the future is not followed, and the time is in doubt until the log is corrected', () => {
    const { clock, doubts } = watched();
    clock.advanceTo(START + 365 * DAY_MS);
    clock.advanceTo(START + 365 * DAY_MS);
    expect([clock.now(), clock.doubted]).toEqual([START, START]);
    clock.advanceTo(START - DAY_MS);
    expect([clock.now(), clock.doubted]).toEqual([START, null]);
    expect(doubts).toEqual([
      ['log', -365 * DAY_MS],
      [null, 0],
    ]);
  });

  test('a time that an operator accepts is used, also if it is earlier', () => {
    const { source, clock } = watched();
    source.setWall(START - DAY_MS);
    expect(clock.now()).toBe(START);
    clock.accept(START - DAY_MS);
    source.advance(5);
    expect([clock.now(), clock.doubted]).toEqual([START - DAY_MS + 5, null]);
  });

  test('a time in doubt continues at its rate however often it is read', () => {
    const { source, clock } = watched();
    source.setWall(START - DAY_MS);
    for (let asked = 0; asked < 10_000; asked += 1) {
      source.advance(0.1);
      clock.now();
    }
    expect(clock.now()).toBeGreaterThanOrEqual(START + 999);
  });
});
