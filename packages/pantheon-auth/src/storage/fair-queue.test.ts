import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FairQueue, type Share } from './fair-queue.ts';

function filled(max: number, ...shares: readonly (readonly [string, string, number])[]): FairQueue<string> {
  const queue = new FairQueue<string>(max);
  for (const [tenantId, callerId, count] of shares)
    for (let n = 1; n <= count; n += 1) queue.push(`${tenantId} ${callerId} ${n}`, { tenantId, callerId });
  return queue;
}

function drain(queue: FairQueue<string>, count = Number.POSITIVE_INFINITY): string[] {
  const taken: string[] = [];
  for (let next = queue.shift(); next !== null; next = taken.length < count ? queue.shift() : null) taken.push(next);
  return taken;
}

test('turns go round the callers, and what one caller asked for stays in its order', () => {
  const queue = filled(100, ['t', 'a', 3], ['t', 'b', 1], ['t', 'c', 2]);
  expect(drain(queue)).toEqual(['t a 1', 't b 1', 't c 1', 't a 2', 't c 2', 't a 3']);
  expect(queue.size).toBe(0);
});

test('turns go round the tenants first: many callers of one do not delay the only one of another', () => {
  const callers = Array.from({ length: 50 }, (_, n) => ['large', `caller-${n}`, 1] as const);
  const queue = filled(100, ...callers, ['small', 'only', 2]);
  expect(drain(queue, 4)).toEqual(['large caller-0 1', 'small only 1', 'large caller-1 1', 'small only 2']);
});

test('one caller has half of the room at most', () => {
  const queue = filled(10, ['t', 'a', 5]);
  expect(queue.push('one more', { tenantId: 't', callerId: 'a' })).toBe('one more');
  expect(queue.push('of another', { tenantId: 't', callerId: 'b' })).toBeNull();
});

test('a full queue has room for whoever waits with less: the newest of who waits with the most gives way', () => {
  const queue = filled(10, ['large', 'a', 5], ['large', 'b', 3], ['small', 'c', 2]);
  expect(queue.push('new', { tenantId: 'new', callerId: 'd' })).toBe('large a 5');
  expect(queue.push('own', { tenantId: 'large', callerId: 'b' })).toBe('large a 4');
  expect(queue.push('equal', { tenantId: 'large', callerId: 'b' })).toBe('equal');
  expect(queue.size).toBe(10);
});

test('a full queue turns the newcomer away where nobody has more than its own caller', () => {
  const queue = filled(4, ['b', 'x', 2], ['a', 'x', 1], ['a', 'y', 1]);
  expect(queue.push('more', { tenantId: 'a', callerId: 'y' })).toBe('more');
  expect(queue.push('new', { tenantId: 'b', callerId: 'y' })).toBe('b x 2');
  expect(queue.push('first', { tenantId: 'c', callerId: 'x' })).toBe('b x 1');
});

test('nothing is lost, doubled or beyond the bounds, whatever comes and goes', () => {
  const share = fc.record({
    tenantId: fc.constantFrom(null, 'a', 'b', 'c'),
    callerId: fc.constantFrom('x', 'y', 'z'),
  });
  const step = fc.oneof({ arbitrary: share, weight: 3 }, { arbitrary: fc.constant('shift' as const), weight: 1 });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 12 }), (steps, max) => {
      const queue = new FairQueue<{ readonly share: Share }>(max);
      const inside = new Set<object>();
      for (const one of steps) {
        if (one === 'shift') {
          const taken = queue.shift();
          expect(taken === null ? inside.size === 0 : inside.delete(taken)).toBe(true);
          continue;
        }
        const item = { share: one };
        inside.add(item);
        const turnedAway = queue.push(item, one);
        if (turnedAway !== null) expect(inside.delete(turnedAway)).toBe(true);
        expect(queue.size).toBe(inside.size);
        expect(inside.size).toBeLessThanOrEqual(max);
      }
      for (let next = queue.shift(); next !== null; next = queue.shift()) expect(inside.delete(next)).toBe(true);
      expect(inside.size).toBe(0);
    }),
  );
});
