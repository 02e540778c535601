/** A printed seed is worth something only if it repeats the run. */
import { expect, test } from 'vitest';
import { planFaults } from './nemesis.ts';
import { Prng } from './prng.ts';

const draws = (prng: Prng) => Array.from({ length: 50 }, () => prng.between(0, 1_000_000));

test('a seed gives the same numbers and faults again, and another seed does not', () => {
  expect(draws(new Prng(7))).toEqual(draws(new Prng(7)));
  expect(draws(new Prng(7))).not.toEqual(draws(new Prng(8)));
  expect(planFaults(new Prng(7), 3, 2)).toEqual(planFaults(new Prng(7), 3, 2));
  expect(planFaults(new Prng(7), 3, 2)).not.toEqual(planFaults(new Prng(8), 3, 2));
});

test('the numbers of one worker do not change those of another', () => {
  const prng = new Prng(7);
  const before = draws(prng.fork('b'));
  draws(prng);
  draws(prng.fork('a'));
  expect(draws(prng.fork('b'))).toEqual(before);
  expect(draws(prng.fork('a'))).not.toEqual(before);
});

test('every fault comes once in each round', () => {
  const names = (rounds: number) => planFaults(new Prng(7), 3, rounds).map(({ name }) => name);
  const once = new Set(names(1));
  expect(once.size).toBe(names(1).length);
  for (const name of once) expect(names(3).filter((one) => one === name)).toHaveLength(3);
});
