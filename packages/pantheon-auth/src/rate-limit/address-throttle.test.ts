import { describe, expect, test } from 'vitest';
import type { Clock } from '../foundation/clock.ts';
import { AddressThrottle, FAILURES_MAX } from './address-throttle.ts';

class TestClock implements Clock {
  ms = 5_000.5;
  now(): number {
    return 0;
  }
  monotonicMs(): number {
    return this.ms;
  }
}

function setUp(options: { failuresMax?: number; refillPerSecond?: number; addressesMax?: number } = {}) {
  const clock = new TestClock();
  const throttle = new AddressThrottle({ clock, ...options });
  const fail = (address: string, times: number): void => {
    for (let done = 0; done < times; done += 1) throttle.fail(address);
  };
  return { clock, throttle, fail };
}

describe('the failures of an address', () => {
  test('as many as allowed pass, then it waits', () => {
    const { throttle, fail } = setUp();
    fail('10.0.0.1', FAILURES_MAX - 1);
    expect(throttle.isThrottled('10.0.0.1')).toBe(false);
    fail('10.0.0.1', 1);
    expect(throttle.isThrottled('10.0.0.1')).toBe(true);
    expect(throttle.retryAfterSeconds('10.0.0.1')).toBe(1);
  });

  test('another address is not touched', () => {
    const { throttle, fail } = setUp();
    fail('10.0.0.1', 100);
    expect(throttle.isThrottled('10.0.0.2')).toBe(false);
    expect(throttle.retryAfterSeconds('10.0.0.2')).toBe(0);
  });

  test('after Retry-After exactly one more is free', () => {
    const { clock, throttle, fail } = setUp({ failuresMax: 3, refillPerSecond: 0.1 });
    fail('10.0.0.1', 3);
    expect(throttle.retryAfterSeconds('10.0.0.1')).toBe(10);
    clock.ms += 9_999;
    expect(throttle.isThrottled('10.0.0.1')).toBe(true);
    clock.ms += 1;
    expect(throttle.isThrottled('10.0.0.1')).toBe(false);
    fail('10.0.0.1', 1);
    expect(throttle.isThrottled('10.0.0.1')).toBe(true);
  });

  test('a flood does not lengthen the wait', () => {
    const { clock, throttle, fail } = setUp();
    fail('10.0.0.1', 10_000);
    expect(throttle.retryAfterSeconds('10.0.0.1')).toBe(1);
    clock.ms += 1_000;
    expect(throttle.isThrottled('10.0.0.1')).toBe(false);
  });

  test('all is forgiven in the end, and no more than all', () => {
    const { clock, throttle, fail } = setUp();
    fail('10.0.0.1', FAILURES_MAX);
    clock.ms += 1e9;
    fail('10.0.0.1', FAILURES_MAX - 1);
    expect(throttle.isThrottled('10.0.0.1')).toBe(false);
    fail('10.0.0.1', 1);
    expect(throttle.isThrottled('10.0.0.1')).toBe(true);
  });
});

describe('whose failures they are', () => {
  test('an IPv6 sender does not get away within its /64, nor by leaving it untouched', () => {
    const { throttle, fail } = setUp();
    for (let host = 0; host < FAILURES_MAX; host += 1) fail(`2001:db8::${host.toString(16)}`, 1);
    expect(throttle.isThrottled('2001:db8::dead:beef')).toBe(true);
    expect(throttle.isThrottled('2001:db8:0:1::1')).toBe(false);
  });

  test('IPv4 written as IPv6 is one sender with IPv4, and every IPv4 address is its own', () => {
    const { throttle, fail } = setUp();
    fail('::ffff:10.0.0.1', FAILURES_MAX);
    expect(throttle.isThrottled('10.0.0.1')).toBe(true);
    expect(throttle.isThrottled('::ffff:10.0.0.2')).toBe(false);
  });

  test('all that is not an address shares one bucket', () => {
    const { throttle, fail } = setUp();
    for (let nth = 0; nth < FAILURES_MAX; nth += 1) fail(`junk ${nth}`, 1);
    expect(throttle.isThrottled('other junk')).toBe(true);
  });

  test('a call without an address never waits', () => {
    const { throttle } = setUp({ failuresMax: 1 });
    throttle.fail(null);
    throttle.fail('10.0.0.1');
    expect(throttle.isThrottled(null)).toBe(false);
    expect(throttle.retryAfterSeconds(null)).toBe(0);
  });
});

test('more addresses than are remembered only forgive', () => {
  const { throttle, fail } = setUp({ failuresMax: 1, addressesMax: 2 });
  for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3']) fail(address, 1);
  const throttled = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((address) => throttle.isThrottled(address));
  expect(throttled).toEqual([false, true, true]);
});

test('settings that would lock out or let through for ever are refused', () => {
  expect(() => setUp({ failuresMax: 0 })).toThrow('Invariant');
  expect(() => setUp({ failuresMax: Number.NaN })).toThrow('Invariant');
  expect(() => setUp({ refillPerSecond: 0 })).toThrow('Invariant');
});
