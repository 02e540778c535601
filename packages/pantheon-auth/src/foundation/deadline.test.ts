import { expect, test, vi } from 'vitest';
import { TestClock } from '../testing/test-clock.ts';
import { LATE, withinMs } from './deadline.ts';

test('work that is done in time gives its result or its error, and its timer is cancelled', async () => {
  const cancel = vi.fn();
  const counted = { after: () => cancel };
  expect(await withinMs(10, Promise.resolve('done'), counted)).toBe('done');
  await expect(withinMs(10, Promise.reject(new Error('failed')), counted)).rejects.toThrow('failed');
  expect(cancel).toHaveBeenCalledTimes(2);
});

test('work that takes longer is late, and its later error is handled', async () => {
  const clock = new TestClock(0);
  const work = Promise.withResolvers<string>();
  const result = withinMs(10, work.promise, clock.timers);
  clock.advance(9);
  clock.advance(1);
  expect(await result).toBe(LATE);
  work.reject(new Error('failed afterwards'));
});

test('the timers of the system are the default', async () => {
  expect(await withinMs(1, new Promise(() => {}))).toBe(LATE);
});
