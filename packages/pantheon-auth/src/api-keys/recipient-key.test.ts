import { createPrivateKey, generateKeyPairSync, type KeyObject, type webcrypto } from 'node:crypto';
import { compactDecrypt } from 'jose';
import { describe, expect, test } from 'vitest';
import { encryptTo, parseRecipientJwk } from './recipient-key.ts';

const PAIRS = {
  X25519: () => generateKeyPairSync('x25519'),
  'P-256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'RSA 2048': () => generateKeyPairSync('rsa', { modulusLength: 2_048 }),
} as const satisfies Record<string, () => { publicKey: KeyObject; privateKey: KeyObject }>;

const jwkOf = (key: KeyObject): webcrypto.JsonWebKey => key.export({ format: 'jwk' });

describe('what is encrypted to a recipient, an independent implementation opens with the private key', () => {
  test.each(Object.entries(PAIRS))('%s', async (name, makePair) => {
    const { publicKey, privateKey } = makePair();
    const parsed = parseRecipientJwk({ ...jwkOf(publicKey), kid: 'mine', use: 'enc' });
    if (!parsed.ok) throw new Error(parsed.why);
    expect(parsed.jwk).toEqual({ ...jwkOf(publicKey), kid: 'mine' });
    const jwe = await encryptTo(parsed.jwk, 'pan_live_secret');
    const { plaintext, protectedHeader } = await compactDecrypt(jwe, privateKey, {
      keyManagementAlgorithms: ['RSA-OAEP-256', 'ECDH-ES'],
      contentEncryptionAlgorithms: ['A256GCM'],
    });
    expect(Buffer.from(plaintext).toString()).toBe('pan_live_secret');
    expect(protectedHeader).toMatchObject({ alg: name.startsWith('RSA') ? 'RSA-OAEP-256' : 'ECDH-ES', kid: 'mine' });
    expect(await encryptTo(parsed.jwk, 'pan_live_secret')).not.toBe(jwe);
  });
});

describe('a key that must not be a recipient is refused', () => {
  const p256 = jwkOf(PAIRS['P-256']().publicKey);
  const rsa = jwkOf(PAIRS['RSA 2048']().publicKey);
  const encoded = (bytes: Buffer): string => bytes.toString('base64url');
  const lowOrder = (first: number): webcrypto.JsonWebKey => {
    const point = Buffer.alloc(32);
    point[0] = first;
    return { kty: 'OKP', crv: 'X25519', x: encoded(point) };
  };
  const EVEN_MODULUS = Buffer.alloc(256);
  EVEN_MODULUS[0] = 0x80;
  const otherPoint = Buffer.from(String(p256.x), 'base64url');
  otherPoint[31] = (otherPoint[31] ?? 0) ^ 1;

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['a private key', jwkOf(PAIRS.X25519().privateKey) as Record<string, unknown>, /private key/],
    ['a private RSA key', jwkOf(PAIRS['RSA 2048']().privateKey) as Record<string, unknown>, /private key/],
    ['a shared secret', { kty: 'oct', k: 'AAAA' }, /private key/],
    [
      'another curve',
      jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey) as object & {},
      /RSA key, an EC/,
    ],
    ['a signature key', jwkOf(generateKeyPairSync('ed25519').publicKey) as object & {}, /RSA key, an EC/],
    ['a point that is not on its curve', { ...p256, x: encoded(otherPoint) }, /not a valid/],
    ['no point', { ...p256, y: undefined }, /not a valid/],
    ['a point of low order, 0', lowOrder(0) as object & {}, /Nothing can be encrypted/],
    ['a point of low order, 1', lowOrder(1) as object & {}, /Nothing can be encrypted/],
    [
      'an RSA key with an even modulus',
      { kty: 'RSA', e: 'AQAB', n: encoded(EVEN_MODULUS) },
      /Nothing can be encrypted/,
    ],
    ['a short RSA key', jwkOf(generateKeyPairSync('rsa', { modulusLength: 1_024 }).publicKey) as object & {}, /2048/],
    [
      'an RSA key with e = 3',
      jwkOf(generateKeyPairSync('rsa', { modulusLength: 2_048, publicExponent: 3 }).publicKey) as object & {},
      /65537/,
    ],
    ['a member that is not of it', { ...rsa, x5c: ['A'] }, /Allowed members/],
    ['a kid with a line break', { ...rsa, kid: 'a\nb' }, /kid/],
    ['a number for a member', { ...rsa, n: 5 }, /not a valid/],
    ['nothing', {}, /RSA key, an EC/],
    ['a kind named like a member of every object', { kty: 'constructor' }, /RSA key, an EC/],
  ])('%s', (_what, jwk, why) => {
    const parsed = parseRecipientJwk(jwk);
    expect(parsed).toMatchObject({ ok: false, why: expect.stringMatching(why) });
  });

  test('a public key written in another way is stored in its one form', () => {
    const { publicKey, privateKey } = PAIRS.X25519();
    const parsed = parseRecipientJwk({ ...jwkOf(publicKey), ext: true, key_ops: [] });
    expect(parsed).toEqual({ ok: true, jwk: jwkOf(publicKey) });
    expect(createPrivateKey({ key: jwkOf(privateKey), format: 'jwk' }).asymmetricKeyType).toBe('x25519');
  });
});
