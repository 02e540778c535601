import { describe, expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import { assertMatches, entityTag, parseIfMatch } from './entity-tag.ts';

const TAG = entityTag('key', 7);

function outcomeOf(value: string | undefined, tag = TAG): string {
  try {
    assertMatches(parseIfMatch(value), tag);
    return 'carried out';
  } catch (error) {
    if (error instanceof PantheonError) return error.code;
    throw error;
  }
}

test('a tag is strong, and differs from that of every other revision and kind', () => {
  expect(TAG).toMatch(/^"[\x21\x23-\x7e]+"$/);
  const tags = [1, 2, 10, 11, 111].flatMap((revision) => [entityTag('key', revision), entityTag('tenant', revision)]);
  expect(new Set(tags).size).toBe(tags.length);
});

describe('a condition that is true lets a change through', () => {
  test.each([
    undefined,
    '*',
    ' * ',
    TAG,
    ` ${TAG} `,
    `"other", ${TAG}`,
    `"other",${TAG},"more"`,
    `, ,${TAG} ,, `,
    `W/${TAG}, ${TAG}`,
    `"with,a,comma", ${TAG}`,
    `"\u00e9", ${TAG}`,
  ])('%j', (value) => {
    expect(outcomeOf(value)).toBe('carried out');
  });
});

describe('a condition that is false refuses the change', () => {
  test.each([
    ['another revision', '"k6"'],
    ['the same number of another kind', '"t7"'],
    ['a weak tag, which matches nothing', `W/${TAG}`],
    ['only others', '"k1", "k2", "k70"'],
    ['another case', '"K7"'],
    ['an empty tag', '""'],
    ['a star in quotation marks', '"*"'],
    ['the tag inside of another one', `"a,${TAG.slice(1, -1)}"`],
  ])('%s', (_what, value) => {
    expect(outcomeOf(value)).toBe('precondition_failed');
  });
});

describe('a condition that cannot be parsed is refused, and never taken for a true one', () => {
  test.each([
    '',
    ' ',
    ',',
    'k7',
    '"k7',
    'k7"',
    `w/${TAG}`,
    `W/ ${TAG}`,
    `W/`,
    `*, ${TAG}`,
    `${TAG}, *`,
    '**',
    `${TAG}${TAG}`,
    `${TAG} ${TAG}`,
    `${TAG};`,
    '"k 7"',
    '"k\t7"',
    `'k7'`,
  ])('%j', (value) => {
    expect(outcomeOf(value)).toBe('invalid_request');
  });

  test('parsing a condition takes time in proportion to its length', () => {
    for (const value of [`${'"'.repeat(100_000)}`, `${', '.repeat(100_000)}x`, `${TAG},`.repeat(30_000)])
      expect(['invalid_request', 'carried out']).toContain(outcomeOf(value));
  });
});
