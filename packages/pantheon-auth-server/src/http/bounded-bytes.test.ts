import { expect, test } from 'vitest';
import { BoundedBytes } from './bounded-bytes.ts';

/** Counts for tenants and for senders without a key, and notes which were closed. */
function counted(bytesMax: number, unauthenticatedBytesMax = bytesMax) {
  const closed: string[] = [];
  const bytes = new BoundedBytes({ bytesMax, unauthenticatedBytesMax });
  const adder = (isAuthenticated: boolean) => (owner: string, size: number, name: string) =>
    bytes.add({ name: owner, isAuthenticated }, size, () => closed.push(name));
  return { bytes, closed, addTenant: adder(true), addSender: adder(false) };
}

test('beyond the bound the owner of the most bytes loses its oldest connection, and nobody else loses one', () => {
  const { bytes, closed, addTenant } = counted(100);
  addTenant('small', 20, 'small 1');
  for (const name of ['1', '2', '3', '4']) addTenant('large', 20, `large ${name}`);
  expect(closed).toEqual([]);
  addTenant('other', 20, 'other 1');
  addTenant('small', 20, 'small 2');
  expect(closed).toEqual(['large 1', 'large 2']);
  expect(bytes.bytes).toBe(100);
});

test('bytes that were released are not counted, and are subtracted once only', () => {
  const { bytes, addTenant } = counted(100);
  const count = addTenant('a', 60, 'a');
  addTenant('a', 30, 'a');
  count.release();
  count.release();
  count.grow(50);
  expect(bytes.bytes).toBe(30);
});

test('one that exceeds the bound alone is closed', () => {
  const { bytes, closed, addTenant } = counted(100);
  addTenant('a', 101, 'a');
  expect([closed, bytes.bytes]).toEqual([['a'], 0]);
});

test('a count that grows beyond the bound closes a connection like one that is added, and all of it is subtracted', () => {
  const { bytes, closed, addTenant } = counted(100);
  const count = addTenant('a', 0, 'a');
  addTenant('b', 50, 'b');
  count.grow(50);
  expect(closed).toEqual([]);
  count.grow(1);
  expect([closed, bytes.bytes]).toEqual([['a'], 50]);
});

test('beyond the part of those without a key, the one of them with the most bytes loses its oldest connection', () => {
  const { bytes, closed, addTenant, addSender } = counted(100, 50);
  addTenant('tenant', 50, 'tenant');
  addSender('small', 10, 'small');
  for (const name of ['1', '2', '3', '4', '5']) addSender('large', 10, `large ${name}`);
  expect([closed, bytes.bytes]).toEqual([['large 1'], 100]);
});

test('bytes without a key give way to those of a tenant, also if the tenant has more', () => {
  const { bytes, closed, addTenant, addSender } = counted(100, 50);
  addTenant('tenant', 70, 'tenant 1');
  addSender('a', 10, 'a');
  addSender('b', 20, 'b');
  addTenant('tenant', 20, 'tenant 2');
  expect(closed).toEqual(['b']);
  addSender('b', 20, 'b again');
  expect(closed).toEqual(['b', 'b again']);
  expect(bytes.bytes).toBe(100);
});
