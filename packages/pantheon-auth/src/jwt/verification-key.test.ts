import { createPublicKey, createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { calculateJwkThumbprint } from 'jose';
import { describe, expect, test } from 'vitest';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { algorithmOfKey, importVerificationKey, jwkThumbprint } from './verification-key.ts';

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
const rsaJwk = (n: bigint | string, e: bigint | string = 65_537n): JsonObject => ({
  kty: 'RSA',
  n: typeof n === 'string' ? n : bigToBase64url(n),
  e: typeof e === 'string' ? e : bigToBase64url(e),
});

describe('a sound key is taken for its one algorithm', () => {
  test.each(KEYS)('$algorithm', ({ algorithm, publicKey, privateKey }) => {
    const jwk = jwkOf(publicKey);
    const imported = importVerificationKey(algorithm, { ...jwk, use: 'sig', alg: algorithm, kid: 'x' });
    expect(imported?.algorithm).toBe(algorithm);
    expect(imported?.key.equals(publicKey)).toBe(true);
    expect(algorithmOfKey(publicKey)).toBe(algorithm);
    expect(algorithmOfKey(privateKey)).toBe(algorithm);
    for (const other of KEYS.filter((key) => key.algorithm !== algorithm)) {
      expect(importVerificationKey(other.algorithm, jwk)).toBeNull();
    }
  });

  test.each(KEYS)(
    '$algorithm: never with a private member, another use or another algorithm',
    ({ algorithm, ...pair }) => {
      const jwk = jwkOf(pair.publicKey);
      expect(importVerificationKey(algorithm, jwkOf(pair.privateKey))).toBeNull();
      const faults: JsonObject[] = [
        { d: 'AA' },
        { k: 'AA' },
        { oth: [] },
        { use: 'enc' },
        { use: 1 },
        { alg: 'HS256' },
        { alg: 'ES384' },
        { kty: 'oct' },
      ];
      for (const fault of faults) expect(importVerificationKey(algorithm, { ...jwk, ...fault })).toBeNull();
      for (const name of ['kty', 'crv', 'x', 'y', 'n', 'e']) {
        if (!(name in jwk)) continue;
        for (const value of [null, 1, '', ['a'], '__proto__', `${String(jwk[name])}=`, `${String(jwk[name])}A`]) {
          expect(importVerificationKey(algorithm, { ...jwk, [name]: value })).toBeNull();
        }
        expect(
          importVerificationKey(
            algorithm,
            Object.fromEntries(Object.entries(jwk).filter(([member]) => member !== name)),
          ),
        ).toBeNull();
      }
    },
  );

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

  test('keys of other kinds are for nothing', () => {
    expect(algorithmOfKey(generateKeyPairSync('x25519').publicKey)).toBeNull();
    expect(algorithmOfKey(generateKeyPairSync('ed448').publicKey)).toBeNull();
    expect(algorithmOfKey(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey)).toBeNull();
    expect(algorithmOfKey(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey)).toBeNull();
  });
});

describe('an unsound RSA key is refused', () => {
  test('the same modulus without a fault is taken', () => {
    expect(importVerificationKey('RS256', rsaJwk(modulus))).not.toBeNull();
    expect(importVerificationKey('RS256', rsaJwk(modulus, 2n ** 32n + 15n))).not.toBeNull();
  });

  test.each([0n, 1n, 3n, 17n, 257n, 65_535n, 65_536n, 65_538n, 2n ** 64n + 1n])('exponent %s', (e) => {
    expect(importVerificationKey('RS256', rsaJwk(modulus, e))).toBeNull();
  });

  test.each([1024, 2040])('%i bits', (modulusLength) => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength });
    expect(importVerificationKey('RS256', jwkOf(publicKey))).toBeNull();
    expect(algorithmOfKey(publicKey)).toBeNull();
  });

  test('a modulus that is even, has a small factor, a leading zero, or is too large', () => {
    const bits = 2n ** 2047n;
    const odd = modulus | 1n;
    const multipleOf = (prime: bigint) => {
      const near = bits + (odd % bits);
      const multiple = near - (near % prime);
      return multiple % 2n === 0n ? multiple + prime : multiple;
    };
    for (const prime of [3n, 5n, 101n, 167n])
      expect(importVerificationKey('RS256', rsaJwk(multipleOf(prime)))).toBeNull();
    expect(importVerificationKey('RS256', rsaJwk(modulus - 1n))).toBeNull();
    expect(
      importVerificationKey(
        'RS256',
        rsaJwk(Buffer.concat([Buffer.of(0), Buffer.from(bigToBase64url(modulus), 'base64url')]).toString('base64url')),
      ),
    ).toBeNull();
    expect(importVerificationKey('RS256', rsaJwk(modulus, 'AAEAAQ'))).toBeNull();
    expect(importVerificationKey('RS256', rsaJwk(2n ** 8200n + 1n))).toBeNull();
  });

  test('a modulus with the fingerprint of ROCA', () => {
    const primes = [
      2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    ];
    const primorial = [...primes, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167].reduce(
      (all, prime) => all * BigInt(prime),
      1n,
    );
    let residue = 1n;
    for (let power = 0; power < 12_345; power += 1) residue = (residue * 65_537n) % primorial;
    const n = residue + primorial * (2n ** 2047n / primorial + 12_345n);
    expect(importVerificationKey('RS256', rsaJwk(n))).toBeNull();
    // The neighbour with another residue for one prime only passes.
    const neighbour = n + primorial / 11n;
    expect(importVerificationKey('RS256', rsaJwk(neighbour))).not.toBeNull();
  });
});

describe('an unsound point is refused', () => {
  test('one that is not on P-256', () => {
    const jwk = jwkOf(ec.publicKey);
    expect(importVerificationKey('ES256', { ...jwk, y: jwk['x'] ?? null })).toBeNull();
    expect(
      importVerificationKey('ES256', {
        ...jwk,
        x: Buffer.alloc(32).toString('base64url'),
        y: Buffer.alloc(32).toString('base64url'),
      }),
    ).toBeNull();
    expect(importVerificationKey('ES256', { ...jwk, x: Buffer.alloc(32, 0xff).toString('base64url') })).toBeNull();
  });

  test('one of another curve', () => {
    for (const namedCurve of ['P-384', 'P-521', 'secp256k1']) {
      const jwk = jwkOf(generateKeyPairSync('ec', { namedCurve }).publicKey);
      expect(importVerificationKey('ES256', jwk)).toBeNull();
      expect(importVerificationKey('ES256', { ...jwk, crv: 'P-256' })).toBeNull();
    }
    for (const key of [generateKeyPairSync('x25519').publicKey, generateKeyPairSync('ed448').publicKey]) {
      expect(importVerificationKey('Ed25519', jwkOf(key))).toBeNull();
    }
  });

  test.each([
    ['order 1', `01${'00'.repeat(31)}`],
    ['order 1, sign set', `01${'00'.repeat(30)}80`],
    ['order 2', `ec${'ff'.repeat(30)}7f`],
    ['order 4', '00'.repeat(32)],
    ['order 4, sign set', `${'00'.repeat(31)}80`],
    ['order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
    ['order 8, sign set', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85'],
    ['order 8, the other', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
    ['order 8, the other, sign set', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa'],
    ['order 4, written as p', `ed${'ff'.repeat(30)}7f`],
    ['order 1, written as p + 1', `ee${'ff'.repeat(30)}7f`],
    ['not reduced', `${'ff'.repeat(32)}`],
  ])('an Ed25519 point of small order or with a second spelling: %s', (_name, hex) => {
    const x = Buffer.from(hex, 'hex').toString('base64url');
    expect(importVerificationKey('Ed25519', { kty: 'OKP', crv: 'Ed25519', x })).toBeNull();
  });
});

describe('a thumbprint names a key', () => {
  test('the vector of RFC 7638 section 3.1', () => {
    const n =
      '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw';
    const jwk: JsonObject = { kty: 'RSA', n, e: 'AQAB', alg: 'RS256', kid: '2011-04-29' };
    expect(jwkThumbprint(jwk)).toBe('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs');
    expect(importVerificationKey('RS256', jwk)).not.toBeNull();
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

  test('there is none of a secret or of junk', () => {
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
