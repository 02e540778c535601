import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FairQueue, type TurnKey } from './fair-queue.ts';

function filled(max: number, ...shares: readonly (readonly [string, string, number])[]): FairQueue<string> {
  const queue = new FairQueue<string>(max, Math.ceil(max / 2));
  for (const [group, member, count] of shares)
    for (let n = 1; n <= count; n += 1) queue.push(`${group} ${member} ${n}`, { group, member });
  return queue;
}

interface Sized {
  readonly key: TurnKey;
  readonly places: number;
}

const placesOf = (items: Iterable<Sized>): number => [...items].reduce((sum, { places }) => sum + places, 0);

function drain(queue: FairQueue<string>, count = Number.POSITIVE_INFINITY): string[] {
  const taken: string[] = [];
  for (let next = queue.shift(); next !== null; next = taken.length < count ? queue.shift() : null) taken.push(next);
  return taken;
}

test('members take turns, and the items of one member stay in order', () => {
  const queue = filled(100, ['t', 'a', 3], ['t', 'b', 1], ['t', 'c', 2]);
  expect(drain(queue)).toEqual(['t a 1', 't b 1', 't c 1', 't a 2', 't c 2', 't a 3']);
  expect(queue.size).toBe(0);
});

test('groups take turns first: many members of one group do not delay the only one of another', () => {
  const callers = Array.from({ length: 50 }, (_, n) => ['large', `caller-${n}`, 1] as const);
  const queue = filled(100, ...callers, ['small', 'only', 2]);
  expect(drain(queue, 4)).toEqual(['large caller-0 1', 'small only 1', 'large caller-1 1', 'small only 2']);
});

test('one member fills no more of the queue than its share', () => {
  const queue = filled(10, ['t', 'a', 5]);
  expect(queue.push('one more', { group: 't', member: 'a' })).toEqual(['one more']);
  expect(queue.push('of another', { group: 't', member: 'b' })).toEqual([]);
});

test('a full queue takes an item of a member that has fewer: the newest item of the member with most is removed', () => {
  const queue = filled(10, ['large', 'a', 5], ['large', 'b', 3], ['small', 'c', 2]);
  expect(queue.push('new', { group: 'new', member: 'd' })).toEqual(['large a 5']);
  expect(queue.push('own', { group: 'large', member: 'b' })).toEqual(['large a 4']);
  expect(queue.push('equal', { group: 'large', member: 'b' })).toEqual(['equal']);
  expect(queue.size).toBe(10);
});

test('a full queue refuses a new item if no other member has more', () => {
  const queue = filled(4, ['b', 'x', 2], ['a', 'x', 1], ['a', 'y', 1]);
  expect(queue.push('more', { group: 'a', member: 'y' })).toEqual(['more']);
  expect(queue.push('new', { group: 'b', member: 'y' })).toEqual(['b x 2']);
  expect(queue.push('first', { group: 'c', member: 'x' })).toEqual(['b x 1']);
});

test('no item is lost, duplicated or beyond the bounds, for any sequence of operations', () => {
  const key = fc.record({
    group: fc.constantFrom(null, 'a', 'b', 'c'),
    member: fc.constantFrom('x', 'y', 'z'),
    places: fc.integer({ min: 1, max: 5 }),
  });
  const step = fc.oneof(
    { arbitrary: key, weight: 3 },
    { arbitrary: fc.constantFrom('shift' as const, 'remove' as const), weight: 1 },
  );
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 200 }),
      fc.integer({ min: 1, max: 12 }),
      fc.boolean(),
      (steps, max, halved) => {
        const ofMemberMax = halved ? Math.ceil(max / 2) : max;
        const queue = new FairQueue<Sized>(max, ofMemberMax);
        const inside = new Set<Sized>();
        for (const one of steps) {
          if (one === 'shift') {
            const taken = queue.shift();
            expect(taken === null ? inside.size === 0 : inside.delete(taken)).toBe(true);
            continue;
          }
          if (one === 'remove') {
            const [item] = inside;
            if (item === undefined) continue;
            queue.remove(item, item.key);
            inside.delete(item);
            expect(queue.size).toBe(inside.size);
            continue;
          }
          const item = { key: one, places: Math.min(one.places, ofMemberMax) };
          inside.add(item);
          const turnedAway = queue.push(item, one, one.places);
          for (const away of turnedAway) expect(inside.delete(away)).toBe(true);
          expect(queue.size).toBe(inside.size);
          expect(placesOf(inside)).toBeLessThanOrEqual(max);
        }
        for (let next = queue.shift(); next !== null; next = queue.shift()) expect(inside.delete(next)).toBe(true);
        expect(inside.size).toBe(0);
      },
    ),
  );
});

describe('the order of owners', () => {
  test('owners take turns, each in the order of its items', () => {
    const queue = new FairQueue<string>(100);
    for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2']) queue.push(item, { group: item.charAt(0), member: 'x' });
    expect(drain(queue)).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3']);
  });

  test('accounts of one owner take turns too, and do not count as other owners', () => {
    const queue = new FairQueue<string>(100);
    for (const account of ['1', '2', '3'])
      for (const nth of ['x', 'y']) queue.push(account + nth, { group: 'many', member: account });
    queue.push('me', { group: 'one', member: '1' });
    expect(drain(queue)).toEqual(['1x', 'me', '2x', '3x', '1y', '2y', '3y']);
  });

  test('an owner that arrives while others wait is next after each of them', () => {
    const queue = new FairQueue<number>(1_000);
    for (let n = 0; n < 500; n += 1) queue.push(n, { group: 'flood', member: 'x' });
    queue.shift();
    queue.push(-1, { group: 'late', member: 'x' });
    expect([queue.shift(), queue.shift()]).toContain(-1);
  });
});

describe('a full queue', () => {
  test('removes the last item of the owner with most, and takes one of an owner with fewer', () => {
    const queue = new FairQueue<string>(4);
    for (const item of ['a1', 'a2', 'a3', 'a4']) expect(queue.push(item, { group: 'a', member: 'x' })).toEqual([]);
    expect(queue.push('a5', { group: 'a', member: 'x' })).toEqual(['a5']);
    expect(queue.push('b1', { group: 'b', member: 'x' })).toEqual(['a4']);
    expect(queue.push('b2', { group: 'b', member: 'x' })).toEqual(['a3']);
    expect(drain(queue)).toEqual(['a1', 'b1', 'a2', 'b2']);
  });

  test('removes from the longest account of the owner with most', () => {
    const queue = new FairQueue<string>(4);
    for (const item of ['p1', 'p2', 'q1']) queue.push(item, { group: 'many', member: item.charAt(0) });
    queue.push('o1', { group: 'one', member: 'x' });
    expect(queue.push('o2', { group: 'one', member: 'x' })).toEqual(['p2']);
    expect(drain(queue).toSorted()).toEqual(['o1', 'o2', 'p1', 'q1']);
  });
});

test('has one item less after an item was removed, and keeps all others', () => {
  const queue = new FairQueue<string>(10);
  for (const item of ['a1', 'a2', 'b1']) queue.push(item, { group: item.charAt(0), member: 'x' });
  queue.remove('a1', { group: 'a', member: 'x' });
  queue.remove('a1', { group: 'a', member: 'x' });
  queue.remove('a2', { group: 'nobody', member: 'x' });
  expect(drain(queue)).toEqual(['a2', 'b1']);
  expect(queue.shift()).toBeNull();
});

test('refuses a new item if no owner would have more than its owner, and keeps the others in order', () => {
  const queue = new FairQueue<string>(100);
  for (let n = 0; n < 100; n += 1) expect(queue.push(`item ${n}`, { group: `group ${n}`, member: 'one' })).toEqual([]);
  for (let n = 0; n < 50; n += 1) expect(queue.push('late', { group: `late ${n}`, member: 'one' })).toEqual(['late']);
  expect(queue.shift()).toBe('item 0');
});

describe('an item that takes the room of several', () => {
  test('removes as many as it needs, from the group with most, and from its members in turn', () => {
    const queue = filled(10, ['large', 'a', 3], ['large', 'b', 3], ['large', 'c', 2], ['small', 'd', 2]);
    expect(queue.push('new', { group: 'new', member: 'e' }, 3)).toEqual(['large a 3', 'large a 2', 'large b 3']);
    expect(drain(queue)).toEqual([
      'large a 1',
      'small d 1',
      'new',
      'large b 1',
      'small d 2',
      'large c 1',
      'large b 2',
      'large c 2',
    ]);
  });

  test('is refused if the others would then have less than its group, and no other is removed', () => {
    const queue = filled(10, ['a', 'x', 5], ['b', 'x', 5]);
    expect(queue.push('new', { group: 'new', member: 'x' }, 4)).toEqual(['new']);
    expect(queue.size).toBe(10);
    expect(queue.push('smaller', { group: 'new', member: 'x' }, 2)).toEqual(['a x 5', 'a x 4']);
  });

  test('may be larger than the share of a member if its member has nothing else', () => {
    const queue = filled(10);
    expect(queue.push('huge', { group: 'a', member: 'x' }, 1_000)).toEqual([]);
    expect(queue.push('more', { group: 'a', member: 'x' })).toEqual(['more']);
    expect(queue.push('other', { group: 'b', member: 'x' }, 5)).toEqual([]);
    expect(drain(queue)).toEqual(['huge', 'other']);
  });
});

test('groups that may not run are skipped and keep their position in the round', () => {
  const queue = filled(10, ['a', 'x', 2], ['b', 'x', 2]);
  expect(queue.shift((group) => group !== 'a')).toBe('b x 1');
  expect(queue.shift(() => false)).toBeNull();
  expect(drain(queue)).toEqual(['a x 1', 'b x 2', 'a x 2']);
});
