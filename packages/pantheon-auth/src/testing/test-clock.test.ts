import { expect, test } from 'vitest';
import { TestClock } from './test-clock.ts';

test('both clocks advance, and only when the test calls for it', () => {
  const clock = new TestClock(1_000);
  expect([clock.now(), clock.monotonicMs()]).toEqual([1_000, 0]);
  clock.advance(250);
  expect([clock.now(), clock.monotonicMs()]).toEqual([1_250, 250]);
});

test('setting the wall clock does not advance monotonic time', () => {
  const clock = new TestClock();
  expect(clock.now()).toBe(Date.UTC(2030, 0, 1));
  clock.setWall(5);
  expect([clock.now(), clock.monotonicMs()]).toEqual([5, 0]);
});

test('the clock cannot be advanced by a negative time', () => {
  expect(() => new TestClock().advance(-1)).toThrow(RangeError);
});

test('timers fire when they are due, in order, each at its own time', () => {
  const clock = new TestClock(0);
  const called: [string, number][] = [];
  const call = (name: string) => () => void called.push([name, clock.now()]);
  clock.timers.after(300, call('late'));
  clock.timers.after(100, () => {
    call('early')();
    clock.timers.after(50, call('set on the way'));
    clock.timers.after(5_000, call('not yet'));
  });
  const cancel = clock.timers.after(200, call('cancelled'));
  clock.advance(99);
  expect(called).toEqual([]);
  cancel();
  cancel();
  clock.advance(1_000);
  expect(called).toEqual([
    ['early', 100],
    ['set on the way', 150],
    ['late', 300],
  ]);
  expect(clock.now()).toBe(1_099);
  clock.setWall(1_000_000);
  expect(called).toHaveLength(3);
});
