import { describe, expect, test } from 'vitest';
import type { Clock } from '../foundation/clock.ts';
import { CHARGES_MAX, SenderBuckets, type SenderBucketsOptions } from './sender-buckets.ts';

class TestClock implements Clock {
  ms = 5_000.5;
  now(): number {
    return 0;
  }
  monotonicMs(): number {
    return this.ms;
  }
}

function setUp(options: Omit<SenderBucketsOptions, 'clock'> = {}) {
  const clock = new TestClock();
  const buckets = new SenderBuckets({ clock, ...options });
  const charge = (sender: string, times: number): void => {
    for (let done = 0; done < times; done += 1) buckets.charge(sender);
  };
  return { clock, buckets, charge };
}

describe('the bucket of a sender', () => {
  test('is full after as many charges as are allowed', () => {
    const { buckets, charge } = setUp();
    charge('a', CHARGES_MAX - 1);
    expect(buckets.isFull('a')).toBe(false);
    charge('a', 1);
    expect(buckets.isFull('a')).toBe(true);
  });

  test('counts that sender only', () => {
    const { buckets, charge } = setUp();
    charge('a', 100);
    expect(buckets.isFull('b')).toBe(false);
    expect(buckets.fullCount()).toBe(1);
  });

  test('has room for exactly one more after one charge was forgiven', () => {
    const { clock, buckets, charge } = setUp({ chargesMax: 3, paidBackPerSecond: 0.1 });
    charge('a', 3);
    clock.ms += 9_999;
    expect(buckets.isFull('a')).toBe(true);
    clock.ms += 1;
    expect(buckets.isFull('a')).toBe(false);
    charge('a', 1);
    expect(buckets.isFull('a')).toBe(true);
  });

  test('is not full for longer after a flood', () => {
    const { clock, buckets, charge } = setUp();
    charge('a', 10_000);
    expect(buckets.isFull('a')).toBe(true);
    clock.ms += 1_000;
    expect(buckets.isFull('a')).toBe(false);
  });

  test('is empty in the end, and never below', () => {
    const { clock, buckets, charge } = setUp();
    charge('a', CHARGES_MAX);
    clock.ms += 1e9;
    charge('a', CHARGES_MAX - 1);
    expect(buckets.isFull('a')).toBe(false);
    charge('a', 1);
    expect(buckets.isFull('a')).toBe(true);
  });
});

test('beyond the number of senders in memory, the oldest are only forgiven', () => {
  const { buckets, charge } = setUp({ chargesMax: 1, sendersMax: 2 });
  for (const sender of ['a', 'b', 'c']) charge(sender, 1);
  expect(['a', 'b', 'c'].map((sender) => buckets.isFull(sender))).toEqual([false, true, true]);
  expect(buckets.fullCount()).toBe(2);
});

test('settings with which no sender would be charged, or one for ever, are refused', () => {
  expect(() => setUp({ chargesMax: 0 })).toThrow('Invariant');
  expect(() => setUp({ chargesMax: Number.NaN })).toThrow('Invariant');
  expect(() => setUp({ paidBackPerSecond: 0 })).toThrow('Invariant');
});
