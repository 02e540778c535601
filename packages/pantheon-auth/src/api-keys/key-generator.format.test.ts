/** docs/key-format.md and the code say the same: its vectors came from an independent implementation. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { encodeBase62 } from '../foundation/encoding.ts';
import type { ParsedKey } from './key-generator.ts';
import { formatKey, hashKey, parseKey, SECRET_BYTES, secretBytes } from './key-generator.ts';

const PAGE = readFileSync(new URL('../../../../docs/key-format.md', import.meta.url), 'utf8');

/** The cells of a table that are written as code, row by row. */
function rowsUnder(header: string): string[][] {
  const [, after = ''] = PAGE.split(`${header}\n`);
  const rows = after.split('\n\n', 1)[0]?.split('\n').slice(1) ?? [];
  return rows.map((row) => [...row.matchAll(/`([^`]+)`/g)].map(([, cell = '']) => cell));
}

const VECTORS = rowsUnder('| prefix | environment | id | secret (hexadecimal) | key | SHA-256 of the key |');
const OTHERS = rowsUnder('| why | string |').map((cells) => cells.at(-1) ?? '');

test('the document has test vectors of both kinds', () => {
  expect([VECTORS.length, OTHERS.length]).toEqual([7, 11]);
});

describe('the test vectors of the document', () => {
  test.each(VECTORS)('%s %s %s', (keyPrefix, environment, id, hex, key, sha256) => {
    const secret = encodeBase62(Buffer.from(hex, 'hex'), 43);
    const parsed = { keyPrefix, environment, id, secret } as ParsedKey;
    expect(parseKey(key, keyPrefix)).toEqual(parsed);
    expect(formatKey(parsed)).toBe(key);
    expect(secretBytes(parsed).toString('hex')).toBe(hex);
    expect(hashKey(key).toString('hex')).toBe(sha256);
  });

  test.each(OTHERS)('%s is not a key', (text) => {
    expect(parseKey(text)).toBeNull();
  });

  test('the largest secret is the one that the grammar names', () => {
    expect(PAGE).toContain(`"${encodeBase62(new Uint8Array(SECRET_BYTES).fill(0xff), 43)}"`);
  });

  test('the example at the top of the document is a valid key', () => {
    expect(parseKey(/```\n(pan_\w+)\n/.exec(PAGE)?.[1] ?? '')).not.toBeNull();
  });
});

/** The expression between two texts of the page. The scanners' dialects agree with ours on all that is used here. */
function expressionAfter(start: string, end: string): string {
  const [, after] = PAGE.split(start);
  return after?.split(end, 1)[0] ?? '';
}
const secretlint = JSON.parse(expressionAfter('```json\n', '```')).rules[0].options.patterns[0].pattern as string;
const anchors = (text: string): string => text.replace('\\A', '^').replace('\\z', '$');
const github = ['Before secret: ', 'Secret format: ', 'After secret: '].map((name) => expressionAfter(name, '\n'));

const RULES: readonly (readonly [string, RegExp])[] = [
  ['gitleaks', new RegExp(expressionAfter("regex = '''", "'''"))],
  ['TruffleHog', new RegExp(expressionAfter("key: '", "'\n"))],
  ['secretlint', new RegExp(secretlint.slice(1, -1))],
  ['GitHub', new RegExp(anchors(`(?:${github[0]})(${github[1]})(?:${github[2]})`))],
];

describe.each(RULES)('the rule for %s', (_scanner, rule) => {
  const ours = VECTORS.flatMap(([keyPrefix, , , , key = '']) => (keyPrefix === 'pan' ? [key] : []));

  test.each(ours)('finds %s at any position in a text', (key) => {
    for (const text of [key, `KEY=${key}\n`, `"${key}"`, `Bearer ${key}, `, `(${key})`, `a:${key}@b`]) {
      expect(rule.exec(text)?.[1]).toBe(key);
    }
  });

  test.each(ours)('does not find what is longer or shorter than %s', (key) => {
    for (const text of [`${key}0`, `x${key}`, `${key}_`, `_${key}`, key.slice(0, -1), key.replace('pan', 'ban')]) {
      expect(rule.test(text)).toBe(false);
    }
  });

  test('finds the form of a key; the checksum decides whether it is one', () => {
    const found = OTHERS.filter((text) => rule.test(text));
    expect(found).toHaveLength(5);
    expect(found.every((text) => parseKey(text) === null)).toBe(true);
  });
});
