import { expect, test } from 'vitest';
import { BASE62_ALPHABET } from './encoding.ts';
import { ID_LENGTH, ID_PATTERN, newId } from './ids.ts';

const SAMPLES = 60_000;
/** Chi-square with 61 degrees of freedom is above this with p = 10⁻⁹: once in ten million runs over 16 positions. */
const CHI_SQUARE_MAX = 150;

test('ids are unique, have one form, and every digit is equally likely at every position', () => {
  const seen = new Set<string>();
  const counts = Array.from({ length: ID_LENGTH }, () => new Map<string, number>());
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    const id = newId();
    seen.add(id);
    for (const [place, count] of counts.entries()) {
      const digit = id.charAt(place);
      count.set(digit, (count.get(digit) ?? 0) + 1);
    }
  }
  expect(seen.size).toBe(SAMPLES);
  expect([...seen].every((id) => ID_PATTERN.test(id))).toBe(true);
  const expected = SAMPLES / BASE62_ALPHABET.length;
  for (const count of counts) {
    const deviations = [...BASE62_ALPHABET].map((digit) => ((count.get(digit) ?? 0) - expected) ** 2 / expected);
    expect(deviations.reduce((sum, one) => sum + one, 0)).toBeLessThan(CHI_SQUARE_MAX);
  }
});

test.each(['', 'short', `${'a'.repeat(16)}\n`, 'a'.repeat(17), `${'a'.repeat(15)}-`, `${'a'.repeat(15)}é`])(
  'not an id: %j',
  (text) => {
    expect(ID_PATTERN.test(text)).toBe(false);
  },
);
