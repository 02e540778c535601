/**
 * Attacks on what a token says, behind a signature that holds: whoever holds a key signs what it likes, and even our own
 * signature is not believed beyond its kind, its issuer, its time and its key. What is not attacked here, and why, is in
 * the table of `a-tokens.test.ts`.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asymmetric, forge, hmac, holderSecret, privateKeysOf, takeApart } from './forge.ts';
import { type Engine, expectNoSecretWritten, ISSUER, keepSecret, openEngine } from './harness.ts';

type Claims = Record<string, unknown>;
type Kind = 'access' | 'key_signed';
const KINDS: readonly Kind[] = ['access', 'key_signed'];

let engine: Engine;
let accessKey: { key: string; id: string };
let holderKey: { key: string; id: string };
let signers: Awaited<ReturnType<typeof privateKeysOf>>;

beforeAll(async () => {
  engine = await openEngine();
  signers = await privateKeysOf(engine);
  const permissions = ['docs:read', 'docs:write'];
  const one = await engine.create({ permissions, jwt: { ttl: '1h' } });
  const other = await engine.create({ permissions, userId: 'user-2', jwt: { algorithm: 'HS256' } });
  accessKey = { key: one.key, id: one.apiKey.id };
  holderKey = { key: other.key, id: other.apiKey.id };
});

afterAll(() => engine[Symbol.asyncDispose]());

async function exchanged(key: string): Promise<string> {
  const exchange = await engine.auth.tokens.exchange({ key });
  if (!exchange.issued) throw new Error(exchange.verification.denial.code);
  keepSecret(exchange.token.token.slice(exchange.token.token.lastIndexOf('.') + 1));
  return exchange.token.token;
}

/** A good token of this kind with other claims, well signed. Text stands for a whole payload. */
async function claiming(kind: Kind, change: Claims | ((good: Claims) => string)): Promise<string> {
  const { header, payload } = takeApart(await exchanged(kind === 'access' ? accessKey.key : holderKey.key));
  const signer =
    kind === 'key_signed' ? hmac(holderSecret(holderKey.key)) : asymmetric('ES256', signers['ES256']?.key ?? never());
  const claims = typeof change === 'function' ? change(payload) : { ...payload, ...change };
  return forge(header, claims, signer);
}

function never(): never {
  throw new Error('there is a key of every algorithm');
}

async function verdict(token: string, permissions: readonly string[] = []): Promise<string> {
  const verified = await engine.auth.tokens.verify({ token, permissions });
  return verified.valid ? 'valid' : verified.denial.code;
}

const seconds = (): number => Math.floor(engine.clock.now() / 1_000);

/** Written into the JSON text as they are: numbers that JavaScript would not write. */
const raw = (name: string, text: string) => (good: Claims) =>
  JSON.stringify({ ...good, [name]: '<here>' }).replace('"<here>"', text);

test.each(KINDS)('%s: a value that is not a whole number of seconds is refused as a time', async (kind) => {
  const texts = ['null', 'true', '"9999999999"', '-1', '1.5', '1500000000.5', '1e400', '-1e400', 'NaN', 'Infinity'];
  const more = ['9223372036854775808', '9007199254740993', '1099511627776', '[]', '[1900000000]', '{}', '""', '"now"'];
  for (const name of ['exp', 'iat', 'nbf']) {
    for (const text of [...texts, ...more]) {
      expect(await verdict(await claiming(kind, raw(name, text))), `${name} ${text}`).toBe('malformed');
    }
  }
  for (const name of ['exp', 'iat'])
    expect(await verdict(await claiming(kind, { [name]: undefined }))).toBe('malformed');
  expect(await verdict(await claiming(kind, { exp: 0 }))).toBe('expired');
});

test.each(KINDS)('%s: each time limit is exact to the millisecond', async (kind) => {
  const lifetimeMax = kind === 'access' ? 3_600 : 300;
  const start = seconds();
  const at = async (token: string, ms: number): Promise<string> => {
    engine.clock.advance(ms - engine.clock.now());
    return verdict(token);
  };
  // Each row in the order of time: the clock only goes forwards.
  const token = await claiming(kind, { iat: start + 100, exp: start + 200 });
  const later = await claiming(kind, { iat: start, exp: start + 290, nbf: start + 100 });
  const leeway = 30;
  expect(await at(token, (start + 100 - leeway) * 1_000 - 1)).toBe('not_yet_active');
  expect(await at(later, (start + 100 - leeway) * 1_000 - 1)).toBe('not_yet_active');
  expect(await at(token, (start + 100 - leeway) * 1_000)).toBe('valid');
  expect(await at(later, (start + 100 - leeway) * 1_000)).toBe('valid');
  expect(await at(token, (start + 200) * 1_000)).toBe('valid');
  expect(await at(token, (start + 200 + leeway) * 1_000 - 1)).toBe('valid');
  expect(await at(token, (start + 200 + leeway) * 1_000)).toBe('expired');
  // Set back, the clock revives nothing.
  engine.clock.setWall((start + 100) * 1_000);
  engine.clock.advance(10);
  expect(await verdict(token)).toBe('expired');
  engine.clock.setWall((start + 200 + leeway) * 1_000 + 10);
  engine.clock.advance(770_000);

  const now = seconds();
  const lives: readonly (readonly [Claims, string])[] = [
    [{ iat: now, exp: now + lifetimeMax }, 'valid'],
    [{ iat: now, exp: now + lifetimeMax + 1 }, 'unknown'],
    [{ iat: now - 10, exp: now + lifetimeMax - 10 }, 'valid'],
    [{ iat: 0, exp: now + 100 }, 'unknown'],
    [{ iat: now, exp: 2 ** 40 - 1 }, 'unknown'],
    [{ iat: now + 20, exp: now + 10 }, 'unknown'],
    [{ iat: now, exp: now + 60, nbf: now + 61 }, 'unknown'],
    [{ iat: now + 31, exp: now + 60 }, 'not_yet_active'],
    [{ iat: now + 30, exp: now + 60 }, 'valid'],
    [{ iat: now - 3_700, exp: now - 100 }, 'expired'],
  ];
  for (const [claims, expected] of lives) {
    expect(await verdict(await claiming(kind, claims)), JSON.stringify(claims)).toBe(expected);
  }
});

test.each(KINDS)('%s: an audience is compared as it is written', async (kind) => {
  const evil = [
    `${ISSUER}.evil`,
    `${ISSUER}/`,
    ISSUER.toUpperCase(),
    ISSUER.slice(0, -1),
    `${ISSUER}:80`,
    `${ISSUER}\0`,
  ];
  const more = ['*', 'https://localhost:8787', 'HTTP://localhost:8787', `${ISSUER} `, `x ${ISSUER}`, 'lοcalhost'];
  for (const aud of [...evil, ...more, ['x', 'y'], ['*']]) {
    expect(await verdict(await claiming(kind, { aud })), JSON.stringify(aud)).toBe('wrong_audience');
  }
  const notAudiences = [
    undefined,
    null,
    '',
    [],
    [null],
    [ISSUER, null],
    ['x', [ISSUER]],
    [[ISSUER]],
    1,
    {},
    true,
    [ISSUER, ''],
    [1],
  ];
  for (const aud of [...notAudiences, Array(33).fill(ISSUER), 'x'.repeat(513), { 0: ISSUER, length: 1 }]) {
    expect(await verdict(await claiming(kind, { aud })), JSON.stringify(aud)).toBe('malformed');
  }
  expect(await verdict(await claiming(kind, { aud: Array(10_000).fill('x') }))).toBe('malformed');
  expect(await verdict(await claiming(kind, { aud: [ISSUER] }))).toBe('valid');
});

test('a holder cannot add an audience that its policy does not allow beside one that it does', async () => {
  expect(await verdict(await claiming('key_signed', { aud: [ISSUER, 'https://elsewhere.example'] }))).toBe(
    'wrong_audience',
  );
});

test.each(KINDS)('%s: the issuer is compared exactly', async (kind) => {
  const others = [
    `${ISSUER}/`,
    ISSUER.toUpperCase(),
    `${ISSUER}.`,
    'http://lοcalhost:8787',
    'http://127.0.0.1:8787',
    `${ISSUER}\u200b`,
  ];
  for (const iss of [...others, 'https://localhost:8787', `${ISSUER}#x`, `${ISSUER}?`]) {
    expect(await verdict(await claiming(kind, { iss })), JSON.stringify(iss)).toBe('unknown');
  }
  for (const iss of [[ISSUER], null, undefined, '', 1, {}, { toString: ISSUER }]) {
    expect(await verdict(await claiming(kind, { iss })), JSON.stringify(iss)).toBe('malformed');
  }
});

test('a token of another installation is refused, also with a kid that exists here', async () => {
  await using other = await openEngine({ testClock: engine.clock });
  const foreign = await other.create({ permissions: ['docs:read'] });
  const exchange = await other.auth.tokens.exchange({ key: foreign.key });
  if (!exchange.issued) throw new Error('not issued');
  keepSecret(exchange.token.token.slice(-43));
  expect(await verdict(exchange.token.token)).toBe('unknown');
  const { header, payload } = takeApart(exchange.token.token);
  const stolen = (await privateKeysOf(other))['ES256'];
  const claims = { ...payload, client_id: accessKey.id };
  const signer = asymmetric('ES256', stolen?.key ?? never());
  expect(await verdict(forge({ ...header, kid: signers['ES256']?.kid }, claims, signer))).toBe('unknown');
  expect(await verdict(forge(header, claims, signer))).toBe('unknown');
});

test('a holder cannot sign a token for another key, user or tenant', async () => {
  await engine.auth.tenants.create({ id: 'acme' });
  const acme = await engine.create({ permissions: ['docs:read'], jwt: { algorithm: 'HS256' } }, 'acme');
  const { header } = takeApart(await claiming('key_signed', {}));
  const mine = hmac(holderSecret(holderKey.key));
  const good = takeApart(await claiming('key_signed', {})).payload;
  const someoneElse = [accessKey.id, acme.apiKey.id, 'A'.repeat(16)];
  for (const id of someoneElse) {
    for (const claims of [{ client_id: id }, { sub: id }, { client_id: id, sub: id }]) {
      expect(['unknown', 'malformed']).toContain(await verdict(forge(header, { ...good, ...claims }, mine)));
      const kid = `${id}-${String(header['kid']).slice(-8)}`;
      expect(['unknown', 'malformed']).toContain(
        await verdict(forge({ ...header, kid }, { ...good, ...claims }, mine)),
      );
    }
  }
  for (const claims of [
    { sub: 'user-1' },
    { sub: 'root' },
    { client_id: 'root' },
    { client_id: null },
    { client_id: ['x'] },
  ]) {
    expect(await verdict(forge(header, { ...good, ...claims }, mine))).toBe('malformed');
  }
  // What only the server may say is not heard from a holder, and its custom claims come from the record.
  const boasting = {
    tenant_id: 'system',
    permissions: ['*'],
    key_version: 9,
    environment: 'test',
    userId: 'root',
    admin: true,
  };
  const verified = await engine.auth.tokens.verify({ token: forge(header, { ...good, ...boasting }, mine) });
  expect(verified).toMatchObject({
    valid: true,
    key: { tenantId: 'default', userId: 'user-2' },
    token: { customClaims: {} },
  });
  // Another tenant's key proves itself only where its tenant is accepted.
  const exchange = await engine.auth.tokens.exchange({ key: acme.key, tenant: 'acme' });
  if (!exchange.issued) throw new Error('not issued');
  keepSecret(exchange.token.token.slice(-43));
  expect(await engine.auth.tokens.verify({ token: exchange.token.token })).toMatchObject({
    valid: false,
    secretVerified: false,
  });
});

test('a valid signature of this service is not enough for a key of another tenant, version or id', async () => {
  const cases = [
    { tenant_id: 'acme' },
    { tenant_id: 'system' },
    { key_version: 2 },
    { client_id: holderKey.id, key_version: 9 },
  ];
  for (const claims of cases) expect(await verdict(await claiming('access', claims))).toBe('unknown');
  const malformed = [
    { tenant_id: '../x' },
    { tenant_id: undefined },
    { key_version: 0 },
    { key_version: '1' },
    { environment: 'prod' },
  ];
  for (const claims of malformed) expect(await verdict(await claiming('access', claims))).toBe('malformed');
});

test.each(KINDS)('%s: a scope wider than the key grants what both allow and no more', async (kind) => {
  const token = await claiming(kind, { scope: 'docs:* admin:all *' });
  const verified = await engine.auth.tokens.verify({ token });
  expect(verified.valid && [...verified.token.permissions].sort()).toEqual(['docs:read', 'docs:write']);
  expect(await verdict(token, ['docs:read'])).toBe('valid');
  for (const extra of ['docs:delete', 'admin:all', 'pantheon:keys:create', 'anything']) {
    expect(await verdict(token, [extra])).toBe('insufficient_permissions');
    const header = (name: string) => (name === 'authorization' ? [`Bearer ${token}`] : []);
    const met = await engine.auth.authenticate({ url: '/', address: null, header }, { permissions: [extra] });
    expect(met).toMatchObject({ authenticated: false, refusal: { status: 403, code: 'insufficient_permissions' } });
  }
  const narrow = await claiming(kind, { scope: 'docs:read' });
  expect(await verdict(narrow, ['docs:write'])).toBe('insufficient_permissions');
  const none = await claiming(kind, { scope: undefined });
  expect(await verdict(none, ['docs:read'])).toBe('insufficient_permissions');
  for (const scope of [
    '',
    ' ',
    'docs:read  docs:write',
    'docs:read ',
    'Docs:Read',
    'docs:*:read',
    '**',
    ['docs:read'],
    null,
    1,
    'a '.repeat(300),
  ]) {
    expect(await verdict(await claiming(kind, { scope }))).toBe('malformed');
  }
});

test('a claim that binds a token to a proof is not ignored', async () => {
  for (const kind of KINDS) {
    for (const cnf of [{ jkt: 'abc' }, { 'x5t#S256': 'abc' }, {}, null]) {
      expect(await verdict(await claiming(kind, { cnf }))).toBe('malformed');
    }
  }
});

test('no exchange gives more permissions than the key has', async () => {
  const wishes = [
    ...[{ permissions: ['*'] }, { permissions: ['docs:*'] }, { permissions: ['docs:read', 'docs:delete'] }],
    ...[
      { permissions: ['pantheon:keys:read'] },
      { permissions: ['docs:read docs:delete'] },
      { permissions: ['docs:read\tx'] },
    ],
    ...[
      { audience: ['https://elsewhere.example'] },
      { audience: [ISSUER, 'x'] },
      { ttlSeconds: 3_601 },
      { ttlSeconds: 0 },
    ],
    ...[{ ttlSeconds: -1 }, { ttlSeconds: 1.5 }, { ttlSeconds: Number.NaN }, { ttlSeconds: 2 ** 53 }],
  ];
  for (const { key } of [accessKey, holderKey]) {
    for (const wish of wishes) {
      await expect(engine.auth.tokens.exchange({ key, ...wish }), JSON.stringify(wish)).rejects.toMatchObject({
        code: 'invalid_request',
      });
    }
  }
});

test('a token never outlives its key', async () => {
  const { key } = await engine.create({ expiresIn: 90 });
  const token = await exchanged(key);
  expect(takeApart(token).payload['exp']).toBeLessThanOrEqual(seconds() + 90);
  engine.clock.advance(89_000);
  expect(await verdict(token)).toBe('valid');
  engine.clock.advance(1_000);
  // Without a second of leeway: that is for clocks that differ, and the key's own clock is ours.
  expect(await verdict(token)).toBe('expired');
});

/** What ends a key, a version or what signed for it, and what its tokens are told from then on. */
const ENDS: readonly (readonly [string, string, (id: string) => Promise<unknown>])[] = [
  ['the key is revoked', 'revoked', (id) => engine.auth.keys.revoke(id)],
  ['the key is suspended', 'suspended', (id) => engine.auth.keys.suspend(id)],
  [
    'the version is rotated out',
    'version_retired',
    (id) => engine.auth.rotation.rotate(id, { overlap: 0 }).then(({ key }) => keepSecret(key)),
  ],
  ['its tokens are revoked', 'revoked', (keyId) => engine.auth.tokens.revokeAllOf({ tenantId: 'default', keyId })],
  [
    'the key expires',
    'expired',
    async (id) => {
      await engine.auth.keys.update(id, { expiresIn: 1 });
      engine.clock.advance(1_000);
    },
  ],
];

test.each(ENDS)('a token is refused at once when %s, also after a restart', async (_name, code, end) => {
  const tokens: string[] = [];
  for (const algorithm of ['ES256', 'HS256', 'RS256', 'Ed25519'] as const) {
    const { key, apiKey } = await engine.create({ jwt: { algorithm } });
    const token = await exchanged(key);
    expect(await verdict(token)).toBe('valid');
    await end(apiKey.id);
    expect(await verdict(token)).toBe(code);
    tokens.push(token);
  }
  engine = await engine.restarted();
  for (const token of tokens) expect(await verdict(token)).toBe(code);
});

test('a revoked token stays revoked, and no other is', async () => {
  for (const { key, id } of [accessKey, holderKey]) {
    const [dead, other] = [await exchanged(key), await exchanged(key)];
    const { jti, exp } = takeApart(dead).payload;
    const token = { tokenId: String(jti), tenantId: 'default', keyId: id, expiresAt: Number(exp) * 1_000 };
    // Its name is no other key's to revoke.
    await engine.auth.tokens.revoke({ ...token, keyId: id === holderKey.id ? accessKey.id : holderKey.id });
    expect(await verdict(dead)).toBe('valid');
    await engine.auth.tokens.revoke(token);
    await engine.auth.tokens.revoke(token);
    expect([await verdict(dead), await verdict(other)]).toEqual(['revoked', 'valid']);
    engine = await engine.restarted();
    expect([await verdict(dead), await verdict(other)]).toEqual(['revoked', 'valid']);
  }
});

test('a superseded version is accepted until its overlap ends and not a millisecond longer', async () => {
  for (const algorithm of ['ES256', 'HS256'] as const) {
    const { key, apiKey } = await engine.create({ jwt: { algorithm } });
    const token = await exchanged(key);
    const next = await engine.auth.rotation.rotate(apiKey.id, { overlap: 60 });
    keepSecret(next.key);
    engine.clock.advance(59_999);
    expect(await verdict(token)).toBe('valid');
    engine.clock.advance(1);
    expect(await verdict(token)).toBe('version_retired');
    expect(await verdict(await exchanged(next.key))).toBe('valid');
    await expect(exchanged(key)).rejects.toThrow('version_retired');
  }
});

test('the tokens of a retired signing key are refused, and its successor signs', async () => {
  const token = await exchanged(accessKey.key);
  await engine.auth.tokens.retireSigningKey(String(takeApart(token).header['kid']));
  expect(await verdict(token)).toBe('unknown');
  expect(await verdict(await exchanged(accessKey.key))).toBe('valid');
  engine = await engine.restarted();
  expect(await verdict(token)).toBe('unknown');
});

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
