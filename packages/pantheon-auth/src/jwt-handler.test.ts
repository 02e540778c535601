import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import { callerWith, keyAndCaller } from '../test/callers.ts';
import { refusalOf } from '../test/refusal-of.ts';
import { ISSUER, openTestEngine, type TestEngine, turn } from '../test/test-engine.ts';
import { KeyChanges } from './api-keys/key-changes.ts';
import { deriveKid, deriveSigningSecret } from './api-keys/key-derivation.ts';
import { parseKey, secretBytes } from './api-keys/key-generator.ts';
import type { CreatedKey } from './api-keys/key-manager.ts';
import type { SigningAlgorithm } from './domain/claims.ts';
import { mintKeyToken } from './jwt/holder-token.ts';

const INPUT = { userId: 'user-1', name: 'n', permissions: ['docs:*', 'billing:read'] };
const ASYMMETRIC = ['ES256', 'Ed25519', 'RS256'] as const;

async function issued(engine: TestEngine, made: CreatedKey, wish: object = {}): Promise<string> {
  const exchange = await engine.auth.tokens.exchange({ key: made.key, ...wish });
  if (!exchange.issued) throw new Error(`Not issued: ${exchange.verification.denial.code}`);
  return exchange.token.token;
}

/** What anyone who has the key string can compute. */
function derivedFrom(key: string) {
  const parsed = parseKey(key);
  if (parsed === null) throw new Error('not a key');
  const bytes = secretBytes(parsed);
  return { kid: deriveKid(bytes, parsed.id), secret: deriveSigningSecret(bytes, parsed.id) };
}

const jwtOf = (algorithm: SigningAlgorithm, more: object = {}): object => ({
  jwt: { algorithm, audience: ['https://api.example', 'reports'], customClaims: { team: 'blue' }, ...more },
});
const API = ['https://api.example'];

/** Judged by another library, with the public keys alone. */
async function judged(engine: TestEngine, token: string, audience = 'https://api.example') {
  const keys = createLocalJWKSet(engine.auth.tokens.jwks() as unknown as JSONWebKeySet);
  const options = { issuer: ISSUER, audience, typ: 'at+jwt', currentDate: new Date(engine.clock.now()) };
  return (await jwtVerify(token, keys, options)).payload;
}

describe('exchange', () => {
  test.each(ASYMMETRIC)(
    '%s: another library verifies the token, and refuses it with one flipped bit',
    async (algorithm) => {
      await using engine = await openTestEngine();
      const { auth, clock } = engine;
      const made = await auth.keys.create({ ...INPUT, ...jwtOf(algorithm) });
      const token = await issued(engine, made);
      expect(decodeProtectedHeader(token)).toEqual({ alg: algorithm, typ: 'at+jwt', kid: expect.any(String) });
      const now = clock.now() / 1_000;
      expect(await judged(engine, token)).toEqual({
        iss: ISSUER,
        sub: 'user-1',
        aud: 'https://api.example',
        client_id: made.apiKey.id,
        iat: now,
        exp: now + 300,
        jti: expect.any(String),
        scope: 'docs:* billing:read',
        tenant_id: 'default',
        key_version: 1,
        environment: 'live',
        team: 'blue',
      });
      expect(await auth.tokens.verify({ token, audience: API, permissions: ['docs:read'] })).toMatchObject({
        valid: true,
        token: { kind: 'access', subject: 'user-1', customClaims: { team: 'blue' }, permissions: INPUT.permissions },
      });
      for (let part = 0; part < 3; part += 1) {
        const parts = token.split('.');
        const bytes = Buffer.from(parts[part] ?? '', 'base64url');
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
        parts[part] = bytes.toString('base64url');
        const flipped = parts.join('.');
        await expect(judged(engine, flipped)).rejects.toThrow();
        expect(await auth.tokens.verify({ token: flipped, audience: API })).toMatchObject({
          valid: false,
          secretVerified: false,
        });
      }
    },
  );

  test('grants only requested permissions, which the key must have', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create(INPUT);
    const token = await issued(engine, made, { permissions: ['docs:read', 'docs:read'] });
    expect(decodeJwt(token)['scope']).toBe('docs:read');
    expect(await auth.tokens.verify({ token, permissions: ['docs:read'] })).toMatchObject({ valid: true });
    expect(await auth.tokens.verify({ token, permissions: ['billing:read'] })).toMatchObject({
      valid: false,
      denial: { code: 'insufficient_permissions', missing: 'billing:read' },
    });
    const nothing = await issued(engine, made, { permissions: [] });
    expect(decodeJwt(nothing)['scope']).toBeUndefined();
    expect(await auth.tokens.verify({ token: nothing })).toMatchObject({ valid: true, token: { permissions: [] } });
    expect(await auth.tokens.verify({ token: nothing, permissions: ['docs:read'] })).toMatchObject({ valid: false });
    for (const permissions of [['*'], ['pantheon:keys:read'], ['billing:*'], ['docs:read', 'other']])
      expect((await refusalOf(auth.tokens.exchange({ key: made.key, permissions }))).field).toBe(
        `permissions[${permissions.length - 1}]`,
      );
  });

  test('has a scope of permissions: none is added behind a space', async () => {
    await using engine = await openTestEngine();
    const made = await engine.auth.keys.create({ ...INPUT, permissions: ['*', 'docs:*'] });
    for (const permission of ['docs:read pantheon:keys:create', 'docs:read\tpantheon:*', 'docs: pantheon:*', '', 'a b'])
      expect(await refusalOf(engine.auth.tokens.exchange({ key: made.key, permissions: [permission] }))).toMatchObject({
        code: 'invalid_request',
        field: 'permissions[0]',
      });
    const many = Array.from({ length: 257 }, (_, n) => `a:${n}`);
    expect((await refusalOf(engine.auth.tokens.exchange({ key: made.key, permissions: many }))).field).toBe(
      'permissions',
    );
  });

  test('has audiences of the policy, otherwise of the service; the first is the default', async () => {
    await using engine = await openTestEngine({ audience: ['https://one.example', 'https://two.example'] });
    const { auth } = engine;
    const plain = await auth.keys.create(INPUT);
    const bound = await auth.keys.create({ ...INPUT, ...jwtOf('ES256') });
    expect(decodeJwt(await issued(engine, plain)).aud).toBe('https://one.example');
    expect(decodeJwt(await issued(engine, plain, { audience: ['https://two.example'] })).aud).toBe(
      'https://two.example',
    );
    expect(decodeJwt(await issued(engine, bound)).aud).toBe('https://api.example');
    const both = await issued(engine, bound, { audience: ['reports', 'https://api.example', 'reports'] });
    expect(decodeJwt(both).aud).toEqual(['reports', 'https://api.example']);
    for (const [made, audience] of [
      [plain, ['https://api.example']],
      [bound, ['https://one.example']],
      [bound, ['reports', 'elsewhere']],
      [bound, ['https://api.example/']],
    ] as const)
      expect((await refusalOf(auth.tokens.exchange({ key: made.key, audience }))).field).toBe('audience');
    // A token is for its audience alone.
    expect(await auth.tokens.verify({ token: both })).toMatchObject({
      valid: false,
      denial: { code: 'wrong_audience' },
    });
    expect(await auth.tokens.verify({ token: both, audience: ['reports'] })).toMatchObject({ valid: true });
  });

  test('gives the requested lifetime within the policy, and never a longer one than the key', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const lifeOf = async (input: object, wish: object = {}): Promise<number> => {
      const { iat = 0, exp = 0 } = decodeJwt(
        await issued(engine, await auth.keys.create({ ...INPUT, ...input }), wish),
      );
      return exp - iat;
    };
    expect(await lifeOf({})).toBe(300);
    expect(await lifeOf({}, { ttlSeconds: 1 })).toBe(1);
    expect(await lifeOf(jwtOf('ES256', { ttl: '1h' }))).toBe(3_600);
    expect(await lifeOf(jwtOf('HS256', { ttl: '1m' }))).toBe(60);
    clock.advance(400);
    expect(await lifeOf({ expiresIn: '1m' })).toBe(60);
    const made = await auth.keys.create({ ...INPUT, ...jwtOf('ES256', { ttl: '2m' }) });
    for (const ttlSeconds of [0, -1, 1.5, 121, Number.NaN, Number.POSITIVE_INFINITY])
      expect((await refusalOf(auth.tokens.exchange({ key: made.key, ttlSeconds }))).field).toBe('ttl');
    const exchange = await auth.tokens.exchange({ key: made.key });
    expect(exchange).toMatchObject({ issued: true, token: { issuedAt: Math.floor(clock.now() / 1_000) * 1_000 } });
  });

  test('is refused for a key that is not valid, with the reason of a verification', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create({ ...INPUT, ipAllowlist: ['10.0.0.0/8'], environment: 'test' });
    const deny = async (request: object) => {
      const exchange = await auth.tokens.exchange({ key: made.key, environment: 'test', ip: '10.0.0.1', ...request });
      return exchange.issued ? 'issued' : exchange.verification.denial.code;
    };
    expect(await deny({})).toBe('issued');
    expect(await deny({ ip: '192.0.2.1' })).toBe('ip_not_allowed');
    expect(await deny({ environment: 'live' })).toBe('environment_mismatch');
    expect(await deny({ key: `${made.key}x` })).toBe('malformed');
    await auth.keys.revoke(made.apiKey.id);
    expect(await deny({})).toBe('revoked');
  });

  test('gives a token of the version that was presented: it ends with that version', async () => {
    await using engine = await openTestEngine();
    const made = await engine.auth.keys.create(INPUT);
    await engine.auth.rotation.rotate(made.apiKey.id, { overlap: '1h' });
    const token = await issued(engine, made);
    expect(decodeJwt(token)['key_version']).toBe(1);
    expect(await engine.auth.tokens.verify({ token })).toMatchObject({ valid: true, key: { version: 1 } });
    await engine.auth.rotation.retire(made.apiKey.id, 1);
    expect(await engine.auth.tokens.verify({ token })).toMatchObject({ denial: { code: 'version_retired' } });
  });
});

describe('tokens signed by the key itself', () => {
  test('are the same from the service and from the holder, who signs offline and sends no key', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create({ ...INPUT, ...jwtOf('HS256') });
    const byService = await issued(engine, made);
    const { key, apiKey } = made;
    const metadata = {
      keyId: apiKey.id,
      algorithm: 'HS256',
      issuer: ISSUER,
      audience: [...API],
      customClaims: {},
    } as const;
    const byHolder = auth.generator.generateJWTFromKey(apiKey, { ...metadata, audience: API }, key);
    const offline = mintKeyToken({ key, issuer: ISSUER, audience: API, permissions: ['docs:*'], clock: engine.clock });
    const { kid, secret } = derivedFrom(key);
    for (const token of [byService, byHolder, offline]) {
      expect(decodeProtectedHeader(token)).toEqual({ alg: 'HS256', typ: 'pantheon-key+jwt', kid });
      const { payload } = await jwtVerify(token, secret, { currentDate: new Date(engine.clock.now()) });
      expect(payload).toMatchObject({ sub: apiKey.id, client_id: apiKey.id, aud: 'https://api.example' });
      expect(await auth.tokens.verify({ token, audience: API, permissions: ['docs:read'] })).toMatchObject({
        valid: true,
        // What the owner put in comes from the record, whoever signed.
        token: { kind: 'key_signed', subject: apiKey.id, customClaims: { team: 'blue' } },
      });
    }
    // Verified again, from memory.
    expect(await auth.tokens.verify({ token: byHolder, audience: API })).toMatchObject({
      valid: true,
      token: { customClaims: { team: 'blue' } },
    });
    expect(engine.logged.join()).not.toContain(key);
  });

  test('need a rotation if the policy is set to HS256 later; all of them end when it names another algorithm', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create(INPUT);
    const { id } = made.apiKey;
    const hs256 = { jwt: { algorithm: 'HS256' as const, audience: API } };
    await auth.keys.update(id, hs256);
    expect((await refusalOf(auth.tokens.exchange({ key: made.key }))).code).toBe('signing_secret_unavailable');
    const rotated = await auth.rotation.rotate(id, { overlap: 0 });
    const token = await issued(engine, { ...made, key: rotated.key });
    expect(await auth.tokens.verify({ token, audience: API })).toMatchObject({ valid: true });
    await auth.keys.update(id, { jwt: { algorithm: 'ES256', audience: API } });
    expect(await auth.tokens.verify({ token, audience: API })).toMatchObject({ denial: { code: 'unknown' } });
    // And its secret is not kept for later.
    await auth.keys.update(id, hs256);
    expect(await auth.tokens.verify({ token, audience: API })).toMatchObject({ denial: { code: 'unknown' } });
  });

  test('grant no more than the key, whatever they say', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create({ ...INPUT, permissions: ['docs:read'], ...jwtOf('HS256') });
    const boasting = { ...made.apiKey, permissions: ['*', 'pantheon:*'] };
    const metadata = {
      keyId: made.apiKey.id,
      algorithm: 'HS256' as const,
      issuer: ISSUER,
      audience: API,
      customClaims: {},
    };
    const token = auth.generator.generateJWTFromKey(boasting, metadata, made.key);
    expect(await auth.tokens.verify({ token, audience: API })).toMatchObject({ token: { permissions: ['docs:read'] } });
    for (const permission of ['docs:write', 'pantheon:keys:create'])
      expect(await auth.tokens.verify({ token, audience: API, permissions: [permission] })).toMatchObject({
        denial: { code: 'insufficient_permissions' },
      });
  });

  test('are for audiences of the policy alone', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create({ ...INPUT, ...jwtOf('HS256') });
    const metadata = { keyId: made.apiKey.id, algorithm: 'HS256' as const, issuer: ISSUER, customClaims: {} };
    const token = auth.generator.generateJWTFromKey(made.apiKey, { ...metadata, audience: [...API, 'bank'] }, made.key);
    expect(await auth.tokens.verify({ token, audience: API })).toMatchObject({ denial: { code: 'wrong_audience' } });
  });
});

describe('issuing for a key without its string', () => {
  test('needs the permission, and the right to grant all that the key has', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT);
    const target = { tenantId: 'default', keyId: apiKey.id };
    const { token } = await auth.tokens.issue(target, { permissions: ['docs:read'], ttlSeconds: 60 });
    expect(await auth.tokens.verify({ token })).toMatchObject({ valid: true, token: { permissions: ['docs:read'] } });
    await auth.tenants.create({ id: 'acme' });
    const ADMIN = { permissions: ['pantheon:*'], grantable: ['*'] };
    for (const [{ by }, code] of [
      [await keyAndCaller(engine, 'default', { permissions: ['docs:*'] }), 'insufficient_permissions'],
      [await keyAndCaller(engine, 'default', { ...ADMIN, grantable: ['billing:*'] }), 'not_grantable'],
      [await keyAndCaller(engine, 'acme', ADMIN), 'not_found'],
    ] as const)
      expect((await refusalOf(auth.tokens.issue(target, {}, { by }))).code).toBe(code);
    for (const other of [
      { tenantId: 'system', keyId: apiKey.id },
      { ...target, keyId: 'NeverMadeNeverMa' },
    ])
      expect((await refusalOf(auth.tokens.issue(other))).code).toBe('not_found');
  });

  test('is refused while the key is not valid', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const refused = async (input: object, change: (id: string) => Promise<unknown> = async () => {}) => {
      const { apiKey } = await auth.keys.create({ ...INPUT, ...input });
      await change(apiKey.id);
      return (await refusalOf(auth.tokens.issue({ tenantId: 'default', keyId: apiKey.id }))).code;
    };
    expect(await refused({ notBefore: '2040-01-01T00:00:00Z' })).toBe('not_allowed');
    expect(await refused({}, (id) => auth.keys.suspend(id))).toBe('not_allowed');
    expect(await refused({}, (id) => auth.keys.revoke(id))).toBe('not_allowed');
    expect(await refused({ expiresIn: '1m' }, async () => engine.clock.advance(60_000))).toBe('not_allowed');
    expect(await refused({}, () => auth.tenants.suspend('default'))).toBe('not_allowed');
  });

  test('is signed with an unretired key, also if another process has retired the cached one', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const { apiKey } = await engine.auth.keys.create(INPUT);
    const kid = async (): Promise<string> => {
      const { token } = await engine.auth.tokens.issue({ tenantId: 'default', keyId: apiKey.id });
      expect(await other.tokens.verify({ token })).toMatchObject({ valid: true });
      return decodeProtectedHeader(token).kid ?? '';
    };
    const first = await kid();
    await turn();
    await other.tokens.retireSigningKey(first);
    engine.clock.advance(1);
    expect(await kid()).not.toBe(first);
  });
});

test('a key that took longer to read than facts may be old gets no token: it may have changed and settled since', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key, apiKey } = await auth.keys.create(INPUT);
  const target = { tenantId: 'default', keyId: apiKey.id };
  const load = KeyChanges.prototype.load;
  let takesMs = 1_001;
  const spy = vi.spyOn(KeyChanges.prototype, 'load').mockImplementation(async function (this: KeyChanges, ...which) {
    const stored = await load.apply(this, which);
    clock.advance(takesMs);
    return stored;
  });
  try {
    for (const make of [() => auth.tokens.exchange({ key }), () => auth.tokens.issue(target)])
      expect(await refusalOf(make())).toMatchObject({ code: 'store_unavailable', retryAfterSeconds: 1 });
    takesMs = 1_000;
    expect(await auth.tokens.exchange({ key })).toMatchObject({ issued: true });
    expect(await auth.tokens.issue(target)).toMatchObject({ keyId: apiKey.id });
  } finally {
    spy.mockRestore();
  }
});

describe("the brief's generateJWTFromKey", () => {
  test('signs with each algorithm, synchronously, and another library verifies it', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, ...jwtOf('HS256') });
    const metadata = { keyId: apiKey.id, issuer: ISSUER, audience: API, customClaims: { team: 'red' } };
    for (const algorithm of ASYMMETRIC) {
      const token = auth.generator.generateJWTFromKey(apiKey, { ...metadata, algorithm });
      expect(await judged(engine, token)).toMatchObject({ sub: 'user-1', client_id: apiKey.id, team: 'red' });
    }
    const token = auth.generator.generateJWTFromKey(apiKey, { ...metadata, algorithm: 'HS256' }, key);
    const { secret } = derivedFrom(key);
    await jwtVerify(token, secret, { issuer: ISSUER, currentDate: new Date(engine.clock.now()) });
  });

  test('HS256 without the key signs with what verification has in memory, and never with the hash', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, ...jwtOf('HS256') });
    const metadata = { keyId: apiKey.id, algorithm: 'HS256' as const, issuer: ISSUER, audience: API, customClaims: {} };
    const sign = () => auth.generator.generateJWTFromKey(apiKey, metadata);
    expect((await refusalOf(sign)).code).toBe('signing_secret_unavailable');
    // What this node has not yet followed would have it forget the key again.
    engine.clock.advance(1);
    await auth.ping();
    await auth.verify({ key });
    expect(await auth.tokens.verify({ token: sign(), audience: API })).toMatchObject({ valid: true });
  });

  test('options that contradict each other are refused with a field, and nothing of the key is repeated', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT);
    const other = await auth.keys.create(INPUT);
    const metadata = { keyId: apiKey.id, algorithm: 'HS256' as const, issuer: ISSUER, audience: API, customClaims: {} };
    const sign = (change: object, key?: string) => () =>
      auth.generator.generateJWTFromKey(apiKey, { ...metadata, ...change }, key);
    for (const [attempt, field] of [
      [sign({ keyId: other.apiKey.id }), 'keyId'],
      [sign({ audience: [] }), 'audience'],
      [sign({}, other.key), 'key'],
      [sign({}, 'nonsense'), 'key'],
      [sign({ algorithm: 'ES256', customClaims: { scope: '*' } }), 'customClaims'],
      [sign({ algorithm: 'ES256', customClaims: { big: 'x'.repeat(5_000) } }), 'customClaims'],
    ] as const) {
      const error = await refusalOf(attempt);
      expect(error).toMatchObject({ code: 'invalid_request', field });
      expect(error.message).not.toContain(other.key.slice(25, 60));
    }
  });

  test.each([
    'iss',
    'sub',
    'aud',
    'exp',
    'nbf',
    'iat',
    'jti',
    'client_id',
    'scope',
    'cnf',
    'act',
    'tenant_id',
    'key_version',
    'environment',
    'permissions',
  ])('a custom claim cannot be named %s', async (name) => {
    await using engine = await openTestEngine();
    const customClaims = JSON.parse(`{"${name}":"mine"}`) as Record<string, never>;
    const error = await refusalOf(engine.auth.keys.create({ ...INPUT, jwt: { algorithm: 'ES256', customClaims } }));
    expect(error).toMatchObject({ code: 'invalid_request', field: expect.stringContaining('customClaims') });
  });
});

describe('revoking', () => {
  test('one token, by its id, leaves the others of the key valid', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const made = await auth.keys.create(INPUT);
    const [one, two] = [await issued(engine, made), await issued(engine, made)];
    const { jti = '', exp = 0 } = decodeJwt(one);
    const target = { tenantId: 'default', keyId: made.apiKey.id, tokenId: jti, expiresAt: exp * 1_000 };
    expect(await auth.tokens.verify({ token: one })).toMatchObject({ valid: true });
    await auth.tokens.revoke(target);
    await auth.tokens.revoke(target);
    expect(await auth.tokens.verify({ token: one })).toMatchObject({
      denial: { code: 'revoked' },
      secretVerified: true,
    });
    expect(await auth.tokens.verify({ token: two })).toMatchObject({ valid: true });
    expect((await auth.events.list('default', { type: 'token.revoked' })).items).toHaveLength(1);
    for (const by of [callerWith({ permissions: [] }), callerWith({ tenantId: 'acme' })])
      await refusalOf(auth.tokens.revoke({ ...target, tokenId: 'x' }, { by }));
    expect((await refusalOf(auth.tokens.revoke({ ...target, keyId: 'NeverMadeNeverMa' }))).code).toBe('not_found');
  });

  test('all of a key includes those of the same moment; the next one is accepted at once', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const made = await auth.keys.create(INPUT);
    for (const ms of [0, 1, 500, 999]) {
      clock.advance(1_000 - (clock.now() % 1_000) + ms);
      const before = await issued(engine, made);
      await auth.tokens.revokeAllOf({ tenantId: 'default', keyId: made.apiKey.id });
      const after = await issued(engine, made);
      expect(await auth.tokens.verify({ token: before }), `at .${ms}`).toMatchObject({ denial: { code: 'revoked' } });
      expect(await auth.tokens.verify({ token: after }), `at .${ms}`).toMatchObject({ valid: true });
    }
    expect(await auth.verify({ key: made.key })).toMatchObject({ valid: true });
    expect((await refusalOf(auth.tokens.revokeAllOf({ tenantId: 'acme', keyId: made.apiKey.id }))).code).toBe(
      'not_found',
    );
  });

  test('all of a key, while somebody changes it', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT);
    await Promise.all([
      auth.keys.update(apiKey.id, { name: 'a' }),
      auth.tokens.revokeAllOf({ tenantId: 'default', keyId: apiKey.id }),
      auth.keys.update(apiKey.id, { name: 'b' }),
    ]);
    const { items } = await auth.events.list('default', { subjectId: apiKey.id });
    expect(items).toHaveLength(4);
  });
});

test('the published keys contain no private part, and the new ones after a ping', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const { kid } = await other.tokens.rotateSigningKey('Ed25519');
  engine.clock.advance(1);
  await engine.auth.ping();
  const { keys } = engine.auth.tokens.jwks();
  expect(keys.map((key) => key['kid'])).toContain(kid);
  for (const key of keys) {
    expect(key).toMatchObject({ use: 'sig', kid: expect.any(String), alg: expect.any(String) });
    for (const name of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) expect(key).not.toHaveProperty(name);
  }
});
