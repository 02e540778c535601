import { expect, test } from 'vitest';
import { fieldPath, showableName } from './field-path.ts';

test.each([
  [[], ''],
  [['name'], 'name'],
  [['rateLimits', 0, 'window'], 'rateLimits[0].window'],
  [[1, 2, 'a'], '[1][2].a'],
  [['metadata', 's3cr3t'.repeat(6)], 'metadata.?'],
  [['metadata', '', 'a'], 'metadata.?.a'],
  [[Symbol('s')], '?'],
])('%j is %s', (parts, path) => {
  expect(fieldPath(parts)).toBe(path);
});

test.each(['a', 'expectedVersion', 'Idempotency-Key', '_x', '2030', 'a.b', 'k'.repeat(21)])('%s is shown', (name) => {
  expect(showableName(name)).toBe(name);
});

test.each([
  '',
  'k'.repeat(22),
  'Vq3xZk0aLm9_Tt2-RrSs1w',
  '0123456789abcdef'.repeat(2),
  'é',
  'a b',
  'a\n',
  '<b>',
  '__proto__\0',
])('%j is not shown', (name) => {
  expect(showableName(name)).toBeNull();
});
