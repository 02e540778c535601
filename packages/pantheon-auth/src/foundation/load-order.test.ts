import { expect, test } from 'vitest';
import { LoadOrder } from './load-order.ts';

test('loads that end in the order in which they began are all accepted', () => {
  const order = new LoadOrder();
  for (const load of [order.begin(), order.begin()]) expect(order.accepts(load)).toBe(true);
});

test('a load that a newer one has overtaken is not accepted, and the next one is', () => {
  const order = new LoadOrder();
  const [older, newer] = [order.begin(), order.begin()];
  expect(order.accepts(newer)).toBe(true);
  expect(order.accepts(older)).toBe(false);
  expect(order.accepts(order.begin())).toBe(true);
});
