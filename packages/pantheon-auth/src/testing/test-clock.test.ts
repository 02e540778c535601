import { expect, test } from 'vitest';
import { TestClock } from './test-clock.ts';

test('time passes on both clocks, and only when it is told to', () => {
  const clock = new TestClock(1_000);
  expect([clock.now(), clock.monotonicMs()]).toEqual([1_000, 0]);
  clock.advance(250);
  expect([clock.now(), clock.monotonicMs()]).toEqual([1_250, 250]);
});

test('setting the wall clock takes no time', () => {
  const clock = new TestClock();
  expect(clock.now()).toBe(Date.UTC(2030, 0, 1));
  clock.setWall(5);
  expect([clock.now(), clock.monotonicMs()]).toEqual([5, 0]);
});

test('time does not run backwards', () => {
  expect(() => new TestClock().advance(-1)).toThrow(RangeError);
});
