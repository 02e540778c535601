import { createSecretKey } from 'node:crypto';
import fc from 'fast-check';
import { jwtVerify } from 'jose';
import { expect, test } from 'vitest';
import { openTestEngine } from '../../test/test-engine.ts';
import { deriveKid, deriveSigningSecret } from '../api-keys/key-derivation.ts';
import { generateKey, parseKey, secretBytes } from '../api-keys/key-generator.ts';
import { AUDIENCES_MAX } from '../domain/claims.ts';
import { PERMISSIONS_MAX } from '../domain/permissions.ts';
import { SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { anyPermission } from '../testing/arbitraries.ts';
import { TestClock } from '../testing/test-clock.ts';
import { type MintTokenOptions, mintKeyToken } from './holder-token.ts';
import { parseJws, verifyJws } from './jws.ts';

const ISSUER = 'https://auth.example.com';
const { key: KEY } = generateKey({ keyPrefix: 'pan', environment: 'live' });

function codeOf(options: Partial<MintTokenOptions>): { code: string; field: string | null } | 'minted' {
  try {
    mintKeyToken({ key: KEY, issuer: ISSUER, audience: [ISSUER], ...options });
    return 'minted';
  } catch (error) {
    if (!(error instanceof PantheonError)) throw error;
    expect(error.message).not.toContain(KEY);
    return { code: error.code, field: error.field };
  }
}

test('a token that the holder signs contains subject, audience and expiry, and another library verifies it', async () => {
  const clock = new TestClock();
  const audience = ['https://api.example.com'];
  const token = mintKeyToken({
    key: KEY,
    issuer: ISSUER,
    audience,
    permissions: ['orders:read', 'orders:read'],
    clock,
  });
  const parsed = parseKey(KEY);
  if (parsed === null) throw new Error('a generated key can be parsed');
  const secret = secretBytes(parsed);
  const { payload, protectedHeader } = await jwtVerify(token, deriveSigningSecret(secret, parsed.id), {
    issuer: ISSUER,
    audience,
    algorithms: ['HS256'],
    typ: 'pantheon-key+jwt',
    currentDate: new Date(clock.now()),
  });
  expect(protectedHeader.kid).toBe(deriveKid(secret, parsed.id));
  expect(payload).toMatchObject({ sub: parsed.id, client_id: parsed.id, scope: 'orders:read' });
  expect(payload.exp).toBe(clock.now() / SECOND_MS + 300);
});

test('every signed token can be parsed, and its signature is valid', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(anyPermission, { maxLength: 8 }),
      fc.integer({ min: 1, max: 300 }),
      fc.uniqueArray(fc.stringMatching(/^[!-~]{1,40}$/), { minLength: 1, maxLength: 4 }),
      (permissions, ttlSeconds, audience) => {
        const token = mintKeyToken({ key: KEY, issuer: ISSUER, audience, permissions, ttlSeconds });
        const parsed = parseJws(token);
        const key = parseKey(KEY);
        if (parsed === null || key === null) throw new Error('it can be taken apart');
        const secret = createSecretKey(deriveSigningSecret(secretBytes(key), key.id));
        expect(verifyJws(parsed, { algorithm: 'HS256', key: secret })).toBe(true);
      },
    ),
  );
});

test('two tokens of one moment are two tokens', () => {
  const clock = new TestClock();
  const options = { key: KEY, issuer: ISSUER, audience: [ISSUER], clock };
  expect(mintKeyToken(options)).not.toBe(mintKeyToken(options));
});

test('the service accepts it within the permissions of the key, until the key is rotated without overlap', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key, apiKey } = await auth.keys.create({
    userId: 'user-1',
    name: 'agent',
    permissions: ['orders:read'],
    jwt: { algorithm: 'HS256' },
  });
  const mint = (permissions?: string[]): string =>
    mintKeyToken({ key, issuer: ISSUER, audience: [ISSUER], clock, ...(permissions && { permissions }) });
  const narrowed = mint(['orders:read', 'orders:write']);
  expect(await auth.tokens.verify({ token: narrowed, permissions: ['orders:read'] })).toMatchObject({
    valid: true,
    token: { permissions: ['orders:read'], kind: 'key_signed' },
  });
  const beyond = await auth.tokens.verify({ token: narrowed, permissions: ['orders:write'] });
  expect(beyond).toMatchObject({ valid: false, denial: { code: 'insufficient_permissions' } });
  expect(await auth.tokens.verify({ token: mint(['*']) })).toMatchObject({ token: { permissions: ['orders:read'] } });
  expect(await auth.tokens.verify({ token: mint() })).toMatchObject({ token: { permissions: [] } });
  await auth.rotation.rotate(apiKey.id, { overlap: 0 });
  clock.advance(SECOND_MS);
  expect(await auth.tokens.verify({ token: narrowed })).toMatchObject({ denial: { code: 'version_retired' } });
});

test('invalid options are refused with a field, and nothing of them is repeated', () => {
  expect(codeOf({})).toBe('minted');
  expect(codeOf({ key: KEY.slice(0, -1) })).toEqual({ code: 'invalid_request', field: 'key' });
  expect(codeOf({ keyPrefix: 'acme' })).toEqual({ code: 'invalid_request', field: 'key' });
  expect(codeOf({ issuer: '' })).toEqual({ code: 'invalid_request', field: 'issuer' });
  expect(codeOf({ issuer: `https://${'a'.repeat(600)}` })).toEqual({ code: 'invalid_request', field: 'issuer' });
  expect(codeOf({ audience: [] })).toEqual({ code: 'invalid_request', field: 'audience' });
  expect(codeOf({ audience: new Array(AUDIENCES_MAX + 1).fill(ISSUER) })).toMatchObject({ field: 'audience' });
  expect(codeOf({ audience: [ISSUER, 'two words'] })).toMatchObject({ field: 'audience[1]' });
  expect(codeOf({ permissions: new Array(PERMISSIONS_MAX + 1).fill('a:b') })).toMatchObject({ field: 'permissions' });
  expect(codeOf({ permissions: ['a:b', 'Not:One'] })).toMatchObject({ field: 'permissions[1]' });
  for (const ttlSeconds of [0, 301, 1.5, Number.NaN]) expect(codeOf({ ttlSeconds })).toMatchObject({ field: 'ttl' });
});

test('a key with another prefix signs if its prefix is given', () => {
  const { key } = generateKey({ keyPrefix: 'acme', environment: 'test' });
  expect(codeOf({ key, keyPrefix: 'acme' })).toBe('minted');
});
