import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FairQueue } from './fair-queue.ts';

function take<T>(queue: FairQueue<T>): T[] {
  const all: T[] = [];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) all.push(next);
  return all;
}

describe('whose turn it is', () => {
  test('owners take turns, each in the order in which they came', () => {
    const queue = new FairQueue<string>(100);
    for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2']) queue.push(item.charAt(0), 'x', item);
    expect(take(queue)).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3']);
  });

  test('accounts of one owner take turns too, and make it no other owner', () => {
    const queue = new FairQueue<string>(100);
    for (const account of ['1', '2', '3']) for (const nth of ['x', 'y']) queue.push('many', account, account + nth);
    queue.push('one', '1', 'me');
    expect(take(queue)).toEqual(['1x', 'me', '2x', '3x', '1y', '2y', '3y']);
  });

  test('who comes while others wait is next after each of them', () => {
    const queue = new FairQueue<number>(1_000);
    for (let n = 0; n < 500; n += 1) queue.push('flood', 'x', n);
    queue.shift();
    queue.push('late', 'x', -1);
    expect([queue.shift(), queue.shift()]).toContain(-1);
  });
});

describe('a queue that is full', () => {
  test('turns away the last of the longest line, and takes who has a shorter one', () => {
    const queue = new FairQueue<string>(4);
    for (const item of ['a1', 'a2', 'a3', 'a4']) expect(queue.push('a', 'x', item)).toBeNull();
    expect(queue.push('a', 'x', 'a5')).toBe('a5');
    expect(queue.push('b', 'x', 'b1')).toBe('a4');
    expect(queue.push('b', 'x', 'b2')).toBe('a3');
    expect(take(queue)).toEqual(['a1', 'b1', 'a2', 'b2']);
  });

  test('turns away the longest account of the owner with most', () => {
    const queue = new FairQueue<string>(4);
    for (const item of ['p1', 'p2', 'q1']) queue.push('many', item.charAt(0), item);
    queue.push('one', 'x', 'o1');
    expect(queue.push('one', 'x', 'o2')).toBe('p2');
    expect(take(queue).toSorted()).toEqual(['o1', 'o2', 'p1', 'q1']);
  });
});

test('what was taken out is gone, and nothing else is', () => {
  const queue = new FairQueue<string>(10);
  for (const item of ['a1', 'a2', 'b1']) queue.push(item.charAt(0), 'x', item);
  queue.remove('a', 'x', 'a1');
  queue.remove('a', 'x', 'a1');
  queue.remove('nobody', 'x', 'a2');
  expect(take(queue)).toEqual(['a2', 'b1']);
  expect(queue.shift()).toBeUndefined();
});

test('whatever comes and goes: nothing is lost or doubled, and never more than the bound waits', () => {
  const step = fc.oneof(
    fc.record({ owner: fc.constantFrom('a', 'b', 'c'), account: fc.constantFrom('x', 'y') }),
    fc.constant('shift' as const),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const queue = new FairQueue<number>(5);
      const waiting = new Set<number>();
      for (const [n, one] of steps.entries()) {
        if (one === 'shift') {
          const next = queue.shift();
          expect(next === undefined).toBe(waiting.size === 0);
          if (next !== undefined) expect(waiting.delete(next)).toBe(true);
        } else {
          waiting.add(n);
          const dropped = queue.push(one.owner, one.account, n);
          if (dropped !== null) expect(waiting.delete(dropped)).toBe(true);
          expect(waiting.size).toBeLessThanOrEqual(5);
        }
      }
      expect(new Set(take(queue))).toEqual(waiting);
    }),
  );
});
