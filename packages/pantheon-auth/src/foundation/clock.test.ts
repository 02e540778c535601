import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TestClock } from '../testing/test-clock.ts';
import { CLOCK_JUMP_MS, DAY_MS, ForwardClock, HOUR_MS, type Instant, momentOf, systemClock } from './clock.ts';

const START = Date.UTC(2030, 0, 1);

function forward(): { source: TestClock; clock: ForwardClock; jumps: number[] } {
  const source = new TestClock(START);
  const jumps: number[] = [];
  return { source, clock: new ForwardClock(source, { onSetBack: (byMs) => jumps.push(byMs) }), jumps };
}

test('the system clock has a wall and a stopwatch', () => {
  expect(Number.isInteger(systemClock.now())).toBe(true);
  const before = systemClock.monotonicMs();
  expect(systemClock.monotonicMs()).toBeGreaterThanOrEqual(before);
});

test('a moment is told by both clocks', () => {
  const clock = new TestClock(START);
  clock.advance(5);
  clock.setWall(7);
  expect(momentOf(clock)).toEqual({ monotonicMs: 5, wallMs: 7 });
});

describe('the forward clock (I14)', () => {
  test('follows the wall while that goes forwards, also over a jump', () => {
    const { source, clock, jumps } = forward();
    source.advance(10);
    expect(clock.now()).toBe(START + 10);
    source.setWall(START + DAY_MS);
    expect(clock.now()).toBe(START + DAY_MS);
    expect(jumps).toEqual([]);
  });

  test('revives nothing that had expired when the wall is set back', () => {
    const { source, clock } = forward();
    const expiresAt = START + HOUR_MS;
    source.advance(HOUR_MS);
    expect(clock.now() >= expiresAt).toBe(true);
    source.setWall(START - DAY_MS);
    expect(clock.now() >= expiresAt).toBe(true);
    expect(new ForwardClock(source).now() >= expiresAt).toBe(false); // Without memory it would.
  });

  test('waits after a small step back, and tells nobody', () => {
    const { source, clock, jumps } = forward();
    source.setWall(START - CLOCK_JUMP_MS);
    expect(clock.now()).toBe(START);
    source.advance(CLOCK_JUMP_MS - 1);
    expect(clock.now()).toBe(START);
    source.advance(2);
    expect(clock.now()).toBe(START + 1);
    expect(jumps).toEqual([]);
  });

  test('goes on at the monotonic rate after a large step back, and tells it once', () => {
    const { source, clock, jumps } = forward();
    source.setWall(START - HOUR_MS);
    expect(clock.now()).toBe(START);
    source.advance(1_500.5);
    expect(clock.now()).toBe(START + 1_500);
    source.advance(HOUR_MS);
    expect(clock.now()).toBe(START + HOUR_MS + 1_500);
    expect(jumps).toEqual([-HOUR_MS]);
  });

  test('counts the time in which nobody asked', () => {
    const { source, clock } = forward();
    source.setWall(START - HOUR_MS);
    clock.now();
    source.advance(2 * HOUR_MS);
    expect(clock.now()).toBe(START + 2 * HOUR_MS);
  });

  test('waits for the wall when that has nearly caught up', () => {
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

  test('follows the wall again once that has caught up, and tells the next jump too', () => {
    const { source, clock, jumps } = forward();
    source.setWall(START - HOUR_MS);
    clock.now();
    source.setWall(START + 5);
    expect(clock.now()).toBe(START + 5);
    source.setWall(START - DAY_MS);
    clock.now();
    expect(jumps).toEqual([-HOUR_MS, -DAY_MS - 5]);
  });

  test('is at least as late as the log says, and goes on from there', () => {
    const { source, clock, jumps } = forward();
    clock.atLeast(START + HOUR_MS);
    expect(clock.now()).toBe(START + HOUR_MS);
    source.advance(250);
    expect(clock.now()).toBe(START + HOUR_MS + 250);
    expect(jumps).toEqual([-HOUR_MS]);
  });

  test('is not set back by an older log', () => {
    const { clock } = forward();
    clock.atLeast(START - HOUR_MS);
    expect(clock.now()).toBe(START);
  });

  test('goes on from the log also while the wall is behind', () => {
    const { source, clock } = forward();
    source.setWall(START - DAY_MS);
    clock.now();
    clock.atLeast(START + HOUR_MS);
    source.advance(40);
    expect(clock.now()).toBe(START + HOUR_MS + 40);
  });

  test('a word from the log does not make it forget the time in which nobody asked', () => {
    const { source, clock } = forward();
    source.setWall(START - DAY_MS);
    clock.now();
    source.advance(HOUR_MS);
    clock.atLeast(START + 1);
    expect(clock.now()).toBe(START + HOUR_MS);
  });

  test('hands on the stopwatch as it is', () => {
    const { source, clock } = forward();
    source.advance(7);
    source.setWall(0);
    expect(clock.monotonicMs()).toBe(7);
  });

  test('never goes back, is always whole, and is never behind the wall or the log, whatever happens', () => {
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
          if (kind === 'log') clock.atLeast(START + ms);
          const floor = Math.max(last, source.now(), kind === 'log' ? START + ms : last);
          last = clock.now();
          expect(last).toBeGreaterThanOrEqual(floor);
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
  function beside(): { source: TestClock; clock: ForwardClock; apart: number[] } {
    const source = new TestClock(START);
    const apart: number[] = [];
    return { source, clock: new ForwardClock(source, { onApart: (byMs) => apart.push(byMs) }), apart };
  }

  test('an answer that took no longer than they differ leaves the clock as it is', () => {
    const { source, clock, apart } = beside();
    clock.heed(START - 60_000, 60_000);
    expect([apart, clock.isDisputed, clock.now()]).toEqual([[], false, source.now()]);
  });

  test('clocks that differ by little are brought together without a word, by as little as it takes', () => {
    const { clock, apart } = beside();
    clock.heed(START + 40, 10);
    expect(clock.now()).toBe(START + 40);
    clock.heed(START + 35, 10);
    expect(clock.now()).toBe(START + 40);
    clock.heed(START + CLOCK_JUMP_MS, 0);
    expect([apart, clock.isDisputed, clock.now()]).toEqual([[], false, START + CLOCK_JUMP_MS]);
  });

  test('the time of the store is used while they are apart, and that is told when it begins and ends', () => {
    const { source, clock, apart } = beside();
    clock.heed(START, 0);
    clock.heed(START + HOUR_MS, 0);
    clock.heed(START + HOUR_MS, 0);
    expect([apart, clock.isDisputed, clock.now()]).toEqual([[HOUR_MS], true, START + HOUR_MS]);
    source.setWall(START + HOUR_MS);
    clock.heed(START + HOUR_MS, 0);
    expect([apart, clock.isDisputed, clock.now()]).toEqual([[HOUR_MS, 0], false, START + HOUR_MS]);
  });

  test('a machine that starts with a clock far ahead dates nothing by it', () => {
    const { clock } = beside();
    clock.heed(START - DAY_MS, 0);
    expect(clock.now()).toBe(START - DAY_MS);
  });

  test('later no store makes time go back', () => {
    const { clock, source } = beside();
    clock.heed(START, 0);
    clock.heed(START - DAY_MS, 0);
    expect(clock.now()).toBe(START);
    source.advance(HOUR_MS);
    expect(clock.now()).toBeGreaterThanOrEqual(START);
  });
});
