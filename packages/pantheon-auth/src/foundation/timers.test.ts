import { afterEach, expect, test, vi } from 'vitest';
import { systemTimers } from './timers.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('a system timer fires once, after its time, unless it is cancelled; a delay of a month is not taken for zero', () => {
  vi.useFakeTimers();
  const called: string[] = [];
  systemTimers.after(1_000, () => void called.push('a'));
  const cancel = systemTimers.after(1_000, () => void called.push('cancelled'));
  systemTimers.after(31 * 86_400_000, () => void called.push('a month'));
  vi.advanceTimersByTime(999);
  expect(called).toEqual([]);
  cancel();
  vi.advanceTimersByTime(10_000);
  expect(called).toEqual(['a']);
});
