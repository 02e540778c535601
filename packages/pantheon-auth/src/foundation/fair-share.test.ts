import { expect, test } from 'vitest';
import { isFairShare } from './fair-share.ts';

test('one owner gets three quarters, others the rest, and all together no more than there is', () => {
  expect(isFairShare({ all: 75, own: 75 }, 100)).toBe(true);
  expect(isFairShare({ all: 76, own: 76 }, 100)).toBe(false);
  expect(isFairShare({ all: 76, own: 25 }, 100)).toBe(true);
  expect(isFairShare({ all: 90, own: 26 }, 100)).toBe(false);
  expect(isFairShare({ all: 100, own: 1 }, 100)).toBe(true);
  expect(isFairShare({ all: 101, own: 1 }, 100)).toBe(false);
});

test('where there is too little to keep a part of, it goes to whoever comes first', () => {
  expect(isFairShare({ all: 1, own: 1 }, 1)).toBe(true);
  expect(isFairShare({ all: 2, own: 1 }, 1)).toBe(false);
});
