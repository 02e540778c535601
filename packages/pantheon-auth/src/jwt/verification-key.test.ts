import { createPublicKey, createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { calculateJwkThumbprint } from 'jose';
import { describe, expect, test } from 'vitest';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { algorithmOfKey, jwkThumbprint } from './verification-key.ts';

const jwkOf = (key: KeyObject): JsonObject => key.export({ format: 'jwk' }) as JsonObject;
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const KEYS: readonly { algorithm: AsymmetricAlgorithm; publicKey: KeyObject; privateKey: KeyObject }[] = [
  { algorithm: 'ES256', ...ec },
  { algorithm: 'Ed25519', ...ed },
  { algorithm: 'RS256', ...rsa },
];
const bigToBase64url = (value: bigint) => {
  const hex = value.toString(16);
  return Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex').toString('base64url');
};
const modulus = BigInt(`0x${Buffer.from(String(jwkOf(rsa.publicKey)['n']), 'base64url').toString('hex')}`);
const rsaJwk = (n: bigint, e = 65_537n): JsonObject => ({ kty: 'RSA', n: bigToBase64url(n), e: bigToBase64url(e) });

/** Null: not even a key. */
const algorithmOfJwk = (key: JsonObject): string | null => {
  try {
    return algorithmOfKey(createPublicKey({ key, format: 'jwk' }));
  } catch {
    return null;
  }
};

describe('a valid key is accepted for its one algorithm', () => {
  test.each(KEYS)('$algorithm', ({ algorithm, publicKey, privateKey }) => {
    expect(algorithmOfKey(publicKey)).toBe(algorithm);
    expect(algorithmOfKey(privateKey)).toBe(algorithm);
  });

  test('a secret is for HS256 and has 32 bytes or more', () => {
    expect([0, 1, 16, 31, 32, 64].map((size) => algorithmOfKey(createSecretKey(Buffer.alloc(size))))).toEqual([
      null,
      null,
      null,
      null,
      'HS256',
      'HS256',
    ]);
  });

  test('keys of other kinds are accepted for no algorithm', () => {
    expect(algorithmOfKey(generateKeyPairSync('x25519').publicKey)).toBeNull();
    expect(algorithmOfKey(generateKeyPairSync('ed448').publicKey)).toBeNull();
    for (const namedCurve of ['P-384', 'P-521', 'secp256k1'])
      expect(algorithmOfKey(generateKeyPairSync('ec', { namedCurve }).publicKey)).toBeNull();
    expect(algorithmOfKey(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey)).toBeNull();
  });
});

describe('a weak RSA key is refused', () => {
  test('the same modulus with a valid exponent is accepted', () => {
    expect(algorithmOfJwk(rsaJwk(modulus))).toBe('RS256');
    expect(algorithmOfJwk(rsaJwk(modulus, 2n ** 32n + 15n))).toBe('RS256');
  });

  test.each([0n, 1n, 3n, 17n, 257n, 65_535n, 65_536n, 65_538n])('exponent %s', (e) => {
    expect(algorithmOfJwk(rsaJwk(modulus, e))).toBeNull();
  });

  test.each([1024, 2040])('%i bits', (modulusLength) => {
    expect(algorithmOfKey(generateKeyPairSync('rsa', { modulusLength }).publicKey)).toBeNull();
  });
});

describe('the thumbprint of a key', () => {
  test('the vector of RFC 7638 section 3.1', () => {
    const n =
      '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw';
    const jwk: JsonObject = { kty: 'RSA', n, e: 'AQAB', alg: 'RS256', kid: '2011-04-29' };
    expect(jwkThumbprint(jwk)).toBe('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs');
  });

  test('the vector of RFC 8037 A.3', () => {
    const jwk: JsonObject = { crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo', kty: 'OKP' };
    expect(jwkThumbprint(jwk)).toBe('kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k');
  });

  test.each(KEYS)(
    '$algorithm: as jose computes it, of the public and the private key alike',
    async ({ publicKey, privateKey }) => {
      const theirs = await calculateJwkThumbprint(
        publicKey.export({ format: 'jwk' }) as Parameters<typeof calculateJwkThumbprint>[0],
      );
      expect(jwkThumbprint(jwkOf(publicKey))).toBe(theirs);
      expect(jwkThumbprint(jwkOf(privateKey))).toBe(theirs);
      expect(theirs).toMatch(/^[A-Za-z0-9_-]{43}$/);
      expect(createPublicKey(privateKey).equals(publicKey)).toBe(true);
    },
  );

  test('does not exist for a secret or another value', () => {
    for (const jwk of [
      {},
      { kty: 'oct', k: 'AA' },
      { kty: 'EC' },
      { kty: 'toString' },
      { kty: ['EC'] },
    ] as JsonObject[]) {
      expect(() => jwkThumbprint(jwk)).toThrow('Invariant');
    }
  });
});
