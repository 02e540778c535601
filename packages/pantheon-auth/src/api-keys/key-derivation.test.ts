import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BASE62_ALPHABET } from '../foundation/encoding.ts';
import { ID_PATTERN } from '../foundation/ids.ts';
import { deriveKid, deriveSigningSecret, keyIdOfKid } from './key-derivation.ts';

/** Computed with another implementation of HKDF (Python's hmac module), from the words of the doc comments. */
const VECTORS = [
  {
    secret: '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    keyId: '0123456789abcDEF',
    signingSecret: '70dde3c6fc2211d38d41fb9d4584ebeb7803e8fe1bc741007614e95fdfbee444',
    kid: '0123456789abcDEF-70rKSZZZ',
  },
  {
    secret: '00'.repeat(32),
    keyId: '0000000000000000',
    signingSecret: 'f882e6092e2e1013eae08cfd42f722d807256d13ae6dde8872f04e6b475d1922',
    kid: '0000000000000000-np9KNeLF',
  },
  {
    secret: 'ff'.repeat(32),
    keyId: 'zzzzzzzzzzzzzzzz',
    signingSecret: '2876f999ce7ed422d59682bd78f4c57e3c492e0e20995169675f8bf30358e871',
    kid: 'zzzzzzzzzzzzzzzz-RYnyQn16',
  },
];

test.each(VECTORS)('the derivation never changes: $kid', ({ secret, keyId, signingSecret, kid }) => {
  expect(deriveSigningSecret(Buffer.from(secret, 'hex'), keyId).toString('hex')).toBe(signingSecret);
  expect(deriveKid(Buffer.from(secret, 'hex'), keyId)).toBe(kid);
});

const secretArbitrary = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const keyIdArbitrary = fc
  .array(fc.constantFrom(...BASE62_ALPHABET), { minLength: 16, maxLength: 16 })
  .map((characters) => characters.join(''));

test('both derivations are HKDF-SHA-256 with the key id as salt and one label each', () => {
  fc.assert(
    fc.property(secretArbitrary, keyIdArbitrary, (secret, keyId) => {
      const prk = createHmac('sha256', keyId).update(secret).digest();
      const expand = (label: string) => createHmac('sha256', prk).update(label).update(Buffer.of(1)).digest();
      expect(deriveSigningSecret(secret, keyId)).toEqual(expand('pantheon/hs256/v1'));
      const number = BigInt(`0x${expand('pantheon/kid/v1').subarray(0, 8).toString('hex')}`) % 62n ** 8n;
      const digits = [...deriveKid(secret, keyId).slice(17)].map((digit) => BigInt(BASE62_ALPHABET.indexOf(digit)));
      expect(digits.reduce((value, digit) => value * 62n + digit, 0n)).toBe(number);
    }),
  );
});

test('a kid is the key id and 8 more characters, and valid in a JWS header', () => {
  fc.assert(
    fc.property(secretArbitrary, keyIdArbitrary, (secret, keyId) => {
      const kid = deriveKid(secret, keyId);
      expect(kid).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
      expect(keyIdOfKid(kid)).toEqual({ keyId, suffix: kid.slice(17) });
      expect(keyId).toMatch(ID_PATTERN);
    }),
  );
});

test('another version of a key, and another key with the same bytes, have different secrets and kids', () => {
  const [first, second] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const derived = [
    [first, 'A'.repeat(16)],
    [second, 'A'.repeat(16)],
    [first, 'B'.repeat(16)],
  ] as const;
  expect(new Set(derived.map(([secret, keyId]) => deriveKid(secret, keyId))).size).toBe(3);
  expect(new Set(derived.map(([secret, keyId]) => deriveSigningSecret(secret, keyId).toString('hex'))).size).toBe(3);
});

test.each([
  '',
  '0123456789abcDEF',
  '0123456789abcDEF-',
  '0123456789abcDEF-0000000',
  '0123456789abcDEF-000000000',
  '0123456789abcDE-00000000',
  '0123456789abcDEFG-00000000',
  '0123456789abcDEF_00000000',
  '0123456789abcDEF-0000000-',
  '0123456789abcDEF-00000000\n',
  ' 0123456789abcDEF-00000000',
  '__proto__',
  "' OR 1=1--",
  'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs',
])('%j is not the kid of a key', (kid) => {
  expect(keyIdOfKid(kid)).toBeNull();
});

test.each([0, 1, 16, 31, 33, 64])('%i bytes are not the secret of a key', (length) => {
  expect(() => deriveSigningSecret(Buffer.alloc(length), 'A'.repeat(16))).toThrow('Invariant');
  expect(() => deriveKid(Buffer.alloc(length), 'A'.repeat(16))).toThrow('Invariant');
});
