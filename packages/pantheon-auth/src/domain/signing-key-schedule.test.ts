import { expect, test } from 'vitest';
import type { SigningKeyRecord } from './signing-key.ts';
import {
  KEPT_AFTER_USE_MS,
  maySignFrom,
  PUBLISHED_BEFORE_USE_MS,
  signerAt,
  standbyOf,
  stateOf,
  unusedFrom,
} from './signing-key-schedule.ts';

const NOW = 1_000_000_000;

function keyOf(kid: string, over: Partial<SigningKeyRecord> = {}): SigningKeyRecord {
  return {
    ...{ kid, algorithm: 'ES256', publicJwk: {}, createdAt: 0, signsFrom: 0, retiredAt: null, revision: 1 },
    ...over,
  };
}

test('of the keys that may sign, the one with the latest start signs', () => {
  const older = keyOf('older', { signsFrom: 1 });
  const newer = keyOf('newer', { signsFrom: 2 });
  const next = keyOf('next', { signsFrom: NOW + 1 });
  const standby = keyOf('standby', { signsFrom: null, createdAt: 9 });
  const others = [keyOf('retired', { signsFrom: 3, retiredAt: 4 }), keyOf('rsa', { algorithm: 'RS256', signsFrom: 5 })];
  const all = [older, newer, next, standby, ...others];
  for (const records of [all, all.toReversed()]) {
    expect(signerAt(records, 'ES256', NOW)?.kid).toBe('newer');
    expect(signerAt(records, 'ES256', NOW + 1)?.kid).toBe('next');
    expect(records.map((one) => `${one.kid} ${stateOf(one, records, NOW)}`).toSorted()).toEqual([
      'newer signing',
      'next next',
      'older previous',
      'retired retired',
      'rsa signing',
      'standby standby',
    ]);
    expect(unusedFrom(older, records, NOW)).toBe(2 + KEPT_AFTER_USE_MS);
    for (const one of [newer, next, standby]) expect(unusedFrom(one, records, NOW)).toBeNull();
  }
  expect(signerAt([next, standby], 'ES256', NOW)).toBeNull();
  expect(stateOf(next, [next], NOW)).toBe('next');
});

test('of two with the same start, every node chooses the same one', () => {
  const [a, b] = [keyOf('a'), keyOf('b')];
  const younger = keyOf('0', { createdAt: 1 });
  for (const records of [
    [a, b],
    [b, a],
  ])
    expect(signerAt(records, 'ES256', NOW)?.kid).toBe('b');
  for (const records of [
    [a, younger],
    [younger, a],
  ])
    expect(signerAt(records, 'ES256', NOW)?.kid).toBe('0');
});

test('the newest key that waits is the standby key, and may sign when it has been published for long enough', () => {
  const waiting = [keyOf('a', { signsFrom: null }), keyOf('b', { signsFrom: null, createdAt: 5 })];
  expect(standbyOf([...waiting, keyOf('c')], 'ES256')?.kid).toBe('b');
  expect(standbyOf(waiting, 'Ed25519')).toBeNull();
  expect(maySignFrom({ createdAt: NOW }, NOW)).toBe(NOW + PUBLISHED_BEFORE_USE_MS);
  expect(maySignFrom({ createdAt: 0 }, NOW)).toBe(NOW);
});
