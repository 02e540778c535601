import { expect, test } from 'vitest';
import { isFairShare } from './fair-share.ts';

test('one owner may use three quarters, and all owners together no more than the whole', () => {
  expect(isFairShare({ all: 75, own: 75 }, 100)).toBe(true);
  expect(isFairShare({ all: 76, own: 76 }, 100)).toBe(false);
  expect(isFairShare({ all: 76, own: 25 }, 100)).toBe(true);
  expect(isFairShare({ all: 90, own: 26 }, 100)).toBe(false);
  expect(isFairShare({ all: 100, own: 1 }, 100)).toBe(true);
  expect(isFairShare({ all: 101, own: 1 }, 100)).toBe(false);
});

test('if the whole is too small to keep a part of it back, the first owner gets it', () => {
  expect(isFairShare({ all: 1, own: 1 }, 1)).toBe(true);
  expect(isFairShare({ all: 2, own: 1 }, 1)).toBe(false);
});
