/** docs/key-format.md and the code say the same of tags: its vectors came from an independent implementation. */
import { createSecretKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BASE62_ALPHABET } from '../foundation/encoding.ts';
import { ID_PATTERN } from '../foundation/ids.ts';
import { isTaggedBy, TAG_SECRET_BYTES, taggedId } from './id-tag.ts';

const PAGE = readFileSync(new URL('../../../../docs/key-format.md', import.meta.url), 'utf8');
const [, after = ''] = PAGE.split('| tag secret (hexadecimal) | 12 characters | id |\n');
const VECTORS = (after.split('\n\n', 1)[0] ?? '')
  .split('\n')
  .slice(1)
  .map((row) => [...row.matchAll(/`([^`]+)`/g)].map(([, cell = '']) => cell));

const newSecret = () => createSecretKey(randomBytes(TAG_SECRET_BYTES));

test('the document has test vectors', () => {
  expect(VECTORS).toHaveLength(4);
});

describe('the test vectors of the document', () => {
  test.each(VECTORS)('%s %s', (hex, random, id) => {
    const secret = createSecretKey(Buffer.from(hex, 'hex'));
    expect(id.startsWith(random)).toBe(true);
    expect(isTaggedBy(id, secret)).toBe(true);
    // One character changed anywhere is another id, which nobody tagged.
    for (let at = 0; at < id.length; at += 1) {
      const other = id[at] === 'x' ? 'y' : 'x';
      expect(isTaggedBy(id.slice(0, at) + other + id.slice(at + 1), secret)).toBe(false);
    }
  });
});

test('a new id has the form of all ids, its own tag, and the tag of no other secret', () => {
  const [secret, other] = [newSecret(), newSecret()];
  const ids = Array.from({ length: 2_000 }, () => taggedId(secret));
  for (const id of ids) {
    expect(id).toMatch(ID_PATTERN);
    expect(isTaggedBy(id, secret)).toBe(true);
  }
  expect(new Set(ids).size).toBe(ids.length);
  // Chance lets one in 14.8 million through.
  expect(ids.filter((id) => isTaggedBy(id, other)).length).toBeLessThanOrEqual(1);
});

test('a text that is not an id has no valid tag', () => {
  const secret = newSecret();
  const id = taggedId(secret);
  for (const text of ['', id.slice(1), `${id}0`, ` ${id.slice(1)}`, `${id}\n`, id.replace(/.$/, 'é')])
    expect(isTaggedBy(text, secret)).toBe(false);
  fc.assert(fc.property(fc.string(), (text) => !isTaggedBy(text, secret) || ID_PATTERN.test(text)));
});

test('every character is equally likely at every position of a tag', () => {
  const secret = newSecret();
  const SAMPLE = 62 * 200;
  const counts = Array.from({ length: 4 }, () => new Map<string, number>());
  for (let made = 0; made < SAMPLE; made += 1) {
    const tag = taggedId(secret).slice(12);
    for (const [at, count] of counts.entries()) count.set(tag[at] ?? '', (count.get(tag[at] ?? '') ?? 0) + 1);
  }
  const expected = SAMPLE / BASE62_ALPHABET.length;
  for (const count of counts) {
    const chiSquare = [...BASE62_ALPHABET].reduce((sum, letter) => {
      const off = (count.get(letter) ?? 0) - expected;
      return sum + (off * off) / expected;
    }, 0);
    // 61 degrees of freedom: beyond this once in ten million runs.
    expect(chiSquare).toBeLessThan(140);
  }
});
