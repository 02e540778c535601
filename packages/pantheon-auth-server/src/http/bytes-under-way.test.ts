import { expect, test } from 'vitest';
import { BytesUnderWay } from './bytes-under-way.ts';

test('beyond the bound the holder of the most loses its oldest, and nobody else anything', () => {
  const closed: string[] = [];
  const bytes = new BytesUnderWay(100);
  const add = (holder: string, name: string, size: number) => bytes.add(holder, size, () => closed.push(name));
  add('small', 'small 1', 20);
  for (const name of ['1', '2', '3', '4']) add('large', `large ${name}`, 20);
  expect(closed).toEqual([]);
  add('other', 'other 1', 20);
  add('small', 'small 2', 20);
  expect(closed).toEqual(['large 1', 'large 2']);
  expect(bytes.bytes).toBe(100);
});

test('what is released is not counted, and once only', () => {
  const bytes = new BytesUnderWay(100);
  const release = bytes.add('a', 60, () => {});
  bytes.add('a', 30, () => {});
  release();
  release();
  expect(bytes.bytes).toBe(30);
});

test('what alone is beyond the bound is closed', () => {
  const closed: string[] = [];
  const bytes = new BytesUnderWay(100);
  bytes.add('a', 101, () => closed.push('a'));
  expect([closed, bytes.bytes]).toEqual([['a'], 0]);
});
