import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DURATION_SECONDS_MAX, formatDuration, parseDuration } from './duration.ts';

test.each([
  ['0s', 0],
  ['0d', 0],
  ['1s', 1],
  ['90s', 90],
  ['15m', 900],
  ['12h', 43_200],
  ['90d', 7_776_000],
  ['3650d', DURATION_SECONDS_MAX],
  [0, 0],
  [42, 42],
  [DURATION_SECONDS_MAX, DURATION_SECONDS_MAX],
])('%s is %i seconds', (text, seconds) => {
  expect(parseDuration(text)).toBe(seconds);
});

test.each([
  ...[
    '',
    's',
    '1',
    '01s',
    '-1s',
    '+1s',
    '1.5h',
    '1e3s',
    '1w',
    '1 d',
    ' 1d',
    '1d ',
    '1d\n',
    '1D',
    '1ms',
    '1h30m',
    'P1D',
    '٣d',
  ],
  ...['3651d', '99999999999s', `${DURATION_SECONDS_MAX + 1}s`],
  ...[-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, DURATION_SECONDS_MAX + 1, 2 ** 53],
])('%s is not a duration', (text) => {
  expect(parseDuration(text)).toBeNull();
});

test.each([
  [0, '0s'],
  [59, '59s'],
  [60, '1m'],
  [90, '90s'],
  [3_600, '1h'],
  [86_400, '1d'],
  [90_000, '25h'],
])('%i seconds are written %s', (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});

test('a written duration is parsed to the same value', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: DURATION_SECONDS_MAX }), (seconds) => {
      expect(parseDuration(formatDuration(seconds))).toBe(seconds);
    }),
  );
});

test('a parsed duration has at most ten years', () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^\d{1,12}[smhd]$/), fc.double());
  fc.assert(
    fc.property(text, (value) => {
      const seconds = parseDuration(value);
      expect(seconds === null || (seconds >= 0 && seconds <= DURATION_SECONDS_MAX)).toBe(true);
    }),
  );
});
