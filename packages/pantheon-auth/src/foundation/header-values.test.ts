import { expect, test } from 'vitest';
import { headerValues } from './header-values.ts';

test('all values of a header are returned as they were sent, whatever its case', () => {
  const raw = ['X-API-Key', 'one', 'Host', 'x-api-key', 'x-api-KEY', ' Two ', 'x-api-keys', 'three'];
  expect(headerValues(raw, 'x-api-key')).toEqual(['one', ' Two ']);
  expect(headerValues(raw, 'authorization')).toEqual([]);
  expect(headerValues([], 'host')).toEqual([]);
});
