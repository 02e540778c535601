import { expect, test } from 'vitest';
import { BoundedBytes } from './bounded-bytes.ts';

test('beyond the bound the owner of the most bytes loses its oldest connection, and nobody else loses one', () => {
  const closed: string[] = [];
  const bytes = new BoundedBytes(100);
  const add = (owner: string, name: string, size: number) => bytes.add(owner, size, () => closed.push(name));
  add('small', 'small 1', 20);
  for (const name of ['1', '2', '3', '4']) add('large', `large ${name}`, 20);
  expect(closed).toEqual([]);
  add('other', 'other 1', 20);
  add('small', 'small 2', 20);
  expect(closed).toEqual(['large 1', 'large 2']);
  expect(bytes.bytes).toBe(100);
});

test('bytes that were released are not counted, and are subtracted once only', () => {
  const bytes = new BoundedBytes(100);
  const release = bytes.add('a', 60, () => {});
  bytes.add('a', 30, () => {});
  release();
  release();
  expect(bytes.bytes).toBe(30);
});

test('one that exceeds the bound alone is closed', () => {
  const closed: string[] = [];
  const bytes = new BoundedBytes(100);
  bytes.add('a', 101, () => closed.push('a'));
  expect([closed, bytes.bytes]).toEqual([['a'], 0]);
});
