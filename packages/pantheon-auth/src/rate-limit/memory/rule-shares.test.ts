import { expect, test } from 'vitest';
import { RuleShares } from './rule-shares.ts';

const rule = (limit: number) => ({ name: `up-to-${limit}`, limit, windowSeconds: 60 });

test.each([
  [0, 2, 0],
  [1, 2, 1],
  [1, 50, 1],
  [2, 2, 1],
  [3, 2, 1],
  [10, 2, 5],
  [10, 3, 3],
  [10, 1, 10],
  // A count that is not sound divides by 1, and never widens a limit.
  [10, 0, 10],
  [10, 0.5, 10],
])('the share of %s among %s is %s', (limit, nodes, share) => {
  expect(new RuleShares().of([rule(limit)], nodes)).toEqual([{ ...rule(limit), limit: share }]);
});

test('the same rules among the same number of nodes are the same list, and another number gives another', () => {
  const shares = new RuleShares();
  const rules = [rule(10), rule(7)];
  const halves = shares.of(rules, 2);
  expect(shares.of(rules, 2)).toBe(halves);
  expect(shares.of(rules, 1).map(({ limit }) => limit)).toEqual([10, 7]);
  expect(shares.of(rules, 2)).toEqual(halves);
});

test('an invalid rule has no share', () => {
  expect(() => new RuleShares().of([rule(Number.NaN)], 2)).toThrow('Invariant');
});
