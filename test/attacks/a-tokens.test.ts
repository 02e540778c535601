/**
 * Attacks on tokens: their form, their algorithm, their headers, and the service that publishes the keys. What a token
 * *says* is attacked in `a-claims.test.ts`. Each attack goes through the library, the middleware and HTTP.
 *
 * | not attacked here | because |
 * |---|---|
 * | introspection endpoint, status list tokens, DPoP proofs | they do not exist yet; a token of such a `typ` is refused below |
 * | remote JWKS (slow, huge, redirected, poisoned) | the engine fetches nothing; zero outbound connections is asserted |
 * | Wycheproof vectors, weak and malformed imported JWKs | beside the code: `jwt/jws.test.ts`, `jwt/verification-key.test.ts`; no entry takes a JWK |
 * | replicas on PostgreSQL | SQLite only; two processes on one file are in the library's own tests |
 */
import { createPublicKey, type JsonWebKeyInput, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { PantheonAuth } from 'pantheon-auth';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asymmetric, b64, forge, hmac, holderSecret, privateKeysOf, takeApart } from './forge.ts';
import {
  ANSWER_MAX_MS,
  expectNoSecretWritten,
  ISSUER,
  keepSecret,
  openService,
  type Service,
  statementsOf,
  tellable,
  withoutHeadReads,
} from './harness.ts';

let service: Service;
let auth: PantheonAuth;
let access: string;
/** A good access token of each algorithm: of a key whose policy names it. */
let accessBy: Readonly<Record<string, string>>;
let keySigned: string;
let holderKey: string;
let signers: Awaited<ReturnType<typeof privateKeysOf>>;
let nobody: unknown;
let senders = 0;

beforeAll(async () => {
  service = await openService();
  auth = service.auth;
  signers = await privateKeysOf(service.engine);
  const { key } = await service.engine.create({ permissions: ['docs:read'] });
  ({ key: holderKey } = await service.engine.create({ permissions: ['docs:read'], jwt: { algorithm: 'HS256' } }));
  access = await exchanged(key);
  keySigned = await exchanged(holderKey);
  accessBy = { ES256: access };
  for (const algorithm of ['Ed25519', 'RS256'] as const) {
    const other = await service.engine.create({ permissions: ['docs:read'], jwt: { algorithm } });
    accessBy = { ...accessBy, [algorithm]: await exchanged(other.key) };
  }
  for (const token of [access, keySigned]) keepSecret(token.slice(token.lastIndexOf('.') + 1));
  nobody = tellable(await overHttp(`${access.slice(0, -4)}AAAA`));
});

afterAll(() => service[Symbol.asyncDispose]());

async function exchanged(key: string): Promise<string> {
  const exchange = await auth.tokens.exchange({ key });
  if (!exchange.issued) throw new Error('no token');
  return exchange.token.token;
}

/** Each from an address of its own: what an address may fail is attacked in `b-keys.test.ts`. */
function overHttp(token: string) {
  senders += 1;
  const remoteAddress = `10.1.${senders >> 8}.${senders & 255}`;
  return service.call({ method: 'GET', url: '/v1/self', by: token, remoteAddress });
}

/** Refused on every way in, in time, without a word about the cause, while good tokens go on. */
async function expectRefused(token: string): Promise<void> {
  const started = performance.now();
  const verified = await auth.tokens.verify({ token });
  expect(verified).toMatchObject({ valid: false, secretVerified: false, keyId: null });
  const header = (name: string) => (name === 'authorization' ? [`Bearer ${token}`] : []);
  const met = await auth.authenticate({ url: '/', address: null, header });
  expect(performance.now() - started).toBeLessThan(ANSWER_MAX_MS);
  const told = met.authenticated ? null : met.refusal.code;
  expect(['invalid_key', 'ambiguous_credential']).toContain(told);
  // What a header cannot carry, or what HTTP strips from its ends, never arrives in this form.
  if (/^[\x21-\x2b\x2d-\x7e]+$/.test(token) && token.length < 10_000) {
    expect(tellable(await overHttp(token))).toEqual(nobody);
  }
}

async function expectGoodTokensGoOn(): Promise<void> {
  for (const token of [access, keySigned]) {
    expect(await auth.tokens.verify({ token, permissions: ['docs:read'] })).toMatchObject({ valid: true });
    expect((await overHttp(token)).status).toBe(200);
  }
}

/** A token that differs from a good one in its header alone: the signature over it holds. */
function withHeader(change: object, algorithm = 'ES256'): string {
  const { header, payload } = takeApart(accessBy[algorithm] ?? '');
  const signer = signers[algorithm];
  if (signer === undefined) throw new Error('no such key');
  return forge({ ...header, alg: algorithm, kid: signer.kid, ...change }, payload, asymmetric(algorithm, signer.key));
}

function holderToken(change: object, payload: object = {}): string {
  const good = takeApart(keySigned);
  return forge({ ...good.header, ...change }, { ...good.payload, ...payload }, hmac(holderSecret(holderKey)));
}

test('without their fault the forged tokens of these tests would be accepted', async () => {
  for (const algorithm of ['ES256', 'Ed25519', 'RS256']) {
    expect(await auth.tokens.verify({ token: withHeader({}, algorithm) })).toMatchObject({ valid: true });
  }
  expect(await auth.tokens.verify({ token: holderToken({}) })).toMatchObject({ valid: true });
  await expectGoodTokensGoOn();
});

test('a scope that repeats a permission grants no less', async () => {
  const { key } = await service.engine.create({
    permissions: ['docs:read', 'orders:read'],
    jwt: { algorithm: 'HS256' },
  });
  const good = takeApart(await exchanged(key));
  for (const scope of ['docs:read orders:*', 'docs:read docs:read orders:*', 'orders:* docs:read orders:* docs:read']) {
    const token = forge(good.header, { ...good.payload, scope }, hmac(holderSecret(key)));
    const verification = await auth.tokens.verify({ token });
    const permissions = verification.valid ? verification.token.permissions : [];
    expect(permissions.toSorted(), scope).toEqual(['docs:read', 'orders:read']);
  }
});

test('a token without a signature is refused, however "none" is written', async () => {
  const { header, payload } = takeApart(access);
  for (const alg of ['none', 'None', 'NONE', 'nOnE', 'none ', ' none', '', 'null', 'undefined', 'plain']) {
    await expectRefused(forge({ ...header, alg }, payload, Buffer.alloc(0)));
    await expectRefused(forge({ ...header, alg }, payload, Buffer.alloc(64)));
    await expectRefused(`${b64({ ...header, alg })}.${b64(payload)}`);
  }
  const [head, body] = access.split('.');
  for (const signature of ['', 'AA', Buffer.alloc(64).toString('base64url'), Buffer.alloc(32).toString('base64url')]) {
    await expectRefused(`${head}.${body}.${signature}`);
  }
});

test('a public key is never the secret of an HMAC, in any encoding and with any white space', async () => {
  const { keys } = auth.tokens.jwks();
  const { payload } = takeApart(access);
  for (const jwk of keys as unknown as readonly (JsonWebKeyInput['key'] & { kid: string; alg: string })[]) {
    const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const der = publicKey.export({ type: 'spki', format: 'der' });
    const bare = publicKey.export({ format: 'jwk' });
    const base64 = der.toString('base64');
    const encodings = [pem, pem.trimEnd(), JSON.stringify(jwk), JSON.stringify(bare), base64, der.toString('hex')];
    const spaced = encodings.flatMap((text) => [
      text,
      `${text}\n`,
      ` ${text}`,
      `\n${text}`,
      text.replaceAll('\n', '\r\n'),
    ]);
    for (const secret of [...spaced, der, Buffer.from(String(jwk.x ?? jwk.n), 'base64url'), jwk.kid, '']) {
      for (const alg of ['HS256', jwk.alg]) {
        await expectRefused(forge({ alg, typ: 'at+jwt', kid: jwk.kid }, payload, hmac(secret)));
      }
      await expectRefused(forge({ alg: 'HS256', typ: 'pantheon-key+jwt', kid: jwk.kid }, payload, hmac(secret)));
    }
  }
  await expectGoodTokensGoOn();
});

test('the key decides the algorithm: a header with another one is refused', async () => {
  const algorithms = ['ES256', 'Ed25519', 'RS256'];
  for (const signedWith of algorithms) {
    for (const alg of [
      'HS256',
      'HS384',
      'HS512',
      'RS384',
      'RS512',
      'PS256',
      'ES384',
      'ES256K',
      'EdDSA',
      ...algorithms,
    ]) {
      if (alg !== signedWith) await expectRefused(withHeader({ alg }, signedWith));
    }
  }
  for (const alg of [
    'es256',
    'Es256',
    'ED25519',
    'ed25519',
    'hs256',
    'HS256 ',
    ['ES256'],
    256,
    { name: 'ES256' },
    null,
    true,
  ]) {
    await expectRefused(withHeader({ alg }));
    await expectRefused(holderToken({ alg }));
  }
  // A kid of one algorithm with the signature of another.
  for (const one of algorithms) {
    const [other] = algorithms.filter((alg) => alg !== one);
    await expectRefused(withHeader({ kid: signers[other ?? '']?.kid }, one));
  }
});

test('a key inside a token is not used, and nothing is fetched for a token', async () => {
  let connections = 0;
  const server = createServer((_request, response) => response.end('{"keys":[]}')).on('connection', () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys.json`;
  const attacker = signers['ES256'];
  const jwk = createPublicKey(attacker?.key ?? '').export({ format: 'jwk' });
  const attacks = [
    { jwk },
    { jwk, kid: 'attacker' },
    { jku: url },
    { x5u: url },
    { x5c: ['MIIB'] },
    { x5t: 'abc' },
    { 'x5t#S256': 'abc' },
    { jku: `${ISSUER}/.well-known/jwks.json` },
    { jku: 'file:///etc/passwd' },
    { jwk: null },
  ];
  for (const attack of attacks) {
    await expectRefused(withHeader(attack));
    await expectRefused(holderToken(attack));
  }
  await new Promise<void>((resolve) => server.close(() => resolve()));
  expect(connections).toBe(0);
});

const STRANGE_NAMES: readonly unknown[] = [
  ...[
    "' OR 1=1--",
    '"; DROP TABLE signing_keys;--',
    '$'.concat('{7*7}'),
    'a\0b',
    'k'.repeat(10_240),
    ['a'],
    1,
    null,
    {},
    true,
  ],
  ...[
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '../../etc/passwd',
    '',
    ' ',
    'k'.repeat(65),
    '%00',
    'ключ',
  ],
];

test('a kid is only compared: none is part of a statement or the name of an object member', async () => {
  const { payload } = takeApart(access);
  const es256 = signers['ES256'];
  for (const kid of STRANGE_NAMES) {
    const ran = await statementsOf(async () => {
      await expectRefused(withHeader({ kid }));
      await expectRefused(forge({ alg: 'HS256', typ: 'pantheon-key+jwt', kid }, payload, hmac('')));
    });
    const text = typeof kid === 'string' && kid.length > 3 ? kid : 'no statement holds this';
    expect(ran.filter((sql) => sql.includes(text))).toEqual([]);
  }
  await expectRefused(
    forge({ alg: 'ES256', typ: 'at+jwt' }, payload, asymmetric('ES256', es256?.key ?? ({} as never))),
  );
});

test('many unknown kids cause no additional reads and remove no valid key from memory', async () => {
  const { payload } = takeApart(access);
  const tokens = Array.from({ length: 1_000 }, () =>
    forge({ alg: 'ES256', typ: 'at+jwt', kid: randomBytes(32).toString('base64url') }, payload, randomBytes(64)),
  );
  const ran = await statementsOf(async () => {
    const verified = await Promise.all(tokens.map((token) => auth.tokens.verify({ token })));
    expect(verified.filter(({ valid }) => valid)).toEqual([]);
  });
  expect(withoutHeadReads(ran)).toEqual([]);
  await expectGoodTokensGoOn();
});

test('tokens with critical, unencoded, compressed, nested or encrypted content are refused', async () => {
  const attacks = [
    ...[
      { crit: ['x'] },
      { crit: [] },
      { crit: 'exp' },
      { crit: ['exp'] },
      { crit: null },
      { crit: ['b64'], b64: false },
    ],
    ...[{ b64: false }, { b64: true }, { zip: 'DEF' }, { zip: null }, { cty: 'JWT' }, { cty: 'at+jwt' }],
    ...[{ enc: 'A256GCM' }, { enc: null }],
  ];
  for (const attack of attacks) {
    await expectRefused(withHeader(attack));
    await expectRefused(holderToken(attack));
  }
});

test('a JWE is refused before any key is derived, whatever it asks for', async () => {
  const epk = { kty: 'EC', crv: 'P-256', x: b64(Buffer.alloc(32, 1)), y: b64(Buffer.alloc(32, 1)) };
  const headers = [
    { alg: 'dir', enc: 'A256GCM' },
    { alg: 'RSA-OAEP', enc: 'A256GCM' },
    { alg: 'PBES2-HS256+A128KW', enc: 'A128GCM', p2c: 1_000_000_000, p2s: 'AAAA' },
    { alg: 'ECDH-ES', enc: 'A128GCM', epk },
    { alg: 'dir', enc: 'A128CBC-HS256', zip: 'DEF' },
    { alg: 'dir', enc: 'A256GCM', cty: 'JWT' },
  ];
  for (const header of headers) {
    const kid = signers['ES256']?.kid;
    for (const key of ['', b64(randomBytes(256))]) {
      const started = process.cpuUsage();
      const token = [
        b64({ ...header, kid, typ: 'at+jwt' }),
        key,
        b64(randomBytes(12)),
        b64(access),
        b64(randomBytes(16)),
      ];
      await expectRefused(token.join('.'));
      const { user, system } = process.cpuUsage(started);
      expect((user + system) / 1_000).toBeLessThan(ANSWER_MAX_MS);
    }
  }
});

test('the JSON serializations are refused, also with a valid signature beside a forged one', async () => {
  const [head = '', body = '', signature = ''] = access.split('.');
  const forged = b64({ ...takeApart(access).payload, scope: '*' });
  const valid = { protected: head, signature };
  for (const json of [
    { payload: body, ...valid },
    { payload: forged, ...valid },
    { payload: body, signatures: [valid] },
    { payload: body, signatures: [valid, { protected: head, signature: b64('forged') }], extra: { payload: forged } },
    [access],
    access,
  ]) {
    await expectRefused(JSON.stringify(json));
    await expectRefused(b64(json));
  }
});

test('the second signature that exists for an ES256 token gives the same token, and ends with it', async () => {
  const { key, apiKey } = await service.engine.create({ permissions: ['docs:read'] });
  const token = await exchanged(key);
  const [head = '', body = '', signature = ''] = token.split('.');
  const bytes = Buffer.from(signature, 'base64url');
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
  const other = (order - BigInt(`0x${bytes.toString('hex', 32)}`)).toString(16).padStart(64, '0');
  const twin = `${head}.${body}.${Buffer.concat([bytes.subarray(0, 32), Buffer.from(other, 'hex')]).toString('base64url')}`;
  const verified = async (one: string) => {
    const { valid, ...rest } = await auth.tokens.verify({ token: one });
    return valid && 'token' in rest ? rest.token : null;
  };
  // Both are seen and remembered before the end comes.
  const seen = await verified(token);
  expect(seen).not.toBeNull();
  expect(await verified(twin)).toEqual(seen);
  const { jti, exp } = takeApart(token).payload as { jti: string; exp: number };
  await auth.tokens.revoke({ tenantId: 'default', keyId: apiKey.id, tokenId: jti, expiresAt: exp * 1_000 });
  for (const one of [token, twin])
    expect(await auth.tokens.verify({ token: one })).toMatchObject({ valid: false, denial: { code: 'revoked' } });
});

test('only one spelling of a token is accepted', async () => {
  for (const token of [access, keySigned]) {
    const [head = '', body = '', signature = ''] = token.split('.');
    const spellings = [
      ...['=', '==', '\n', '\r\n', ' ', '\t', '\0', '.', '..', '.AA', '%0a', ';', '#', '\u200b', '\ufeff'].map(
        (end) => token + end,
      ),
      ...[' ', '\n', '\t', '\ufeff', '\u200b', '.', '=', 'Bearer '].map((start) => start + token),
      ...[`${head}=.${body}.${signature}`, `${head}.${body}==.${signature}`, `${head} .${body}.${signature}`],
      ...[
        `${head}.${body}\n.${signature}`,
        `${head}..${signature}`,
        `.${body}.${signature}`,
        `${head}.${body}.`,
        `${head}.${body}`,
      ],
      ...['', '.', '..', '...', 'a.b.c', '....', `${head}%2E${body}%2E${signature}`, `${head}．${body}．${signature}`],
      ...[
        `${head}.${body}.${signature}.${signature}`,
        `${head}.${body}.${body}.${signature}`,
        token.toUpperCase(),
        token.toLowerCase(),
      ],
      ...[
        `${head}.${body}.${Buffer.from(signature, 'base64url').toString('base64')}`,
        token.replace('.', '..'),
        [...token].reverse().join(''),
      ],
      ...[head, body, signature].map((part) => token.replace(part, otherSpelling(part))),
      ...[head, body, signature].map((part) => token.replace(part, `${part.slice(0, 8)}+${part.slice(9)}`)),
      ...[head, body, signature].map((part) => token.replace(part, `${part.slice(0, 8)}/${part.slice(9)}`)),
    ];
    for (const spelling of spellings) if (spelling !== token) await expectRefused(spelling);
  }
  await expectGoodTokensGoOn();
});

/** The same bytes with other bits in the last character, where it has unused ones; else another last character. */
function otherSpelling(part: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(part.slice(-1));
  const other = alphabet[part.length % 4 === 0 ? (last + 1) % 64 : last ^ 1] ?? '';
  return part.slice(0, -1) + other;
}

test('every flipped bit of a token is refused', async () => {
  for (const token of [access, keySigned]) {
    for (let at = 0; at < token.length; at += 1) {
      const flipped = String.fromCharCode(token.charCodeAt(at) ^ (1 << (at % 7)));
      const verified = await auth.tokens.verify({ token: token.slice(0, at) + flipped + token.slice(at + 1) });
      expect(verified).toMatchObject({ valid: false, secretVerified: false });
    }
  }
});

test('header and payload are JSON objects with unique members and nothing that reaches a prototype', async () => {
  const { header, payload } = takeApart(access);
  const es256 = signers['ES256'];
  const signer = asymmetric('ES256', es256?.key ?? ({} as never));
  const notObjects = [
    '[]',
    '"text"',
    '1',
    'null',
    'true',
    '',
    ' ',
    '{',
    '{}x',
    'NaN',
    '[{}]',
    '"{}"',
    '\ufeff{}',
    '{"a":1,}',
  ];
  for (const text of notObjects) {
    await expectRefused(forge(text, payload, signer));
    await expectRefused(forge(header, text, signer));
  }
  const head = JSON.stringify(header);
  const body = JSON.stringify(payload);
  const twice = (text: string, members: string) => `{${members},${text.slice(1)}`;
  for (const members of [
    '"alg":"none"',
    '"alg":"ES256"',
    `"kid":${JSON.stringify(es256?.kid)}`,
    '"\\u0061lg":"HS256"',
  ]) {
    await expectRefused(forge(twice(head, members), payload, signer));
  }
  for (const members of [
    '"scope":"*"',
    '"sub":"root"',
    '"exp":9999999999',
    '"\\u0065xp":1',
    '"__proto__":{"scope":"*"}',
    '"constructor":{}',
  ]) {
    await expectRefused(forge(header, twice(body, members), signer));
  }
  const deep = `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}`;
  await expectRefused(forge(header, deep.slice(0, 4_000), signer));
  await expectRefused(forge(header, `{"a":${'['.repeat(600)}${']'.repeat(600)}}`, signer));
  const invalidUtf8 = Buffer.concat([
    Buffer.from(body.slice(0, -1)),
    Buffer.from(',"x":"'),
    Buffer.of(0xc0, 0xaf),
    Buffer.from('"}'),
  ]);
  await expectRefused(forge(header, invalidUtf8, signer));
  expect(({} as Record<string, unknown>)['scope']).toBeUndefined();
});

test('one kind of token is never taken for another, nor a token for a key', async () => {
  const kinds = [
    'JWT',
    'jwt',
    'dpop+jwt',
    'statuslist+jwt',
    'logout+jwt',
    'AT+JWT',
    'at+jwt ',
    'application/AT+JWT',
    '',
    1,
    null,
    undefined,
  ];
  for (const typ of kinds) {
    await expectRefused(withHeader({ typ }));
    await expectRefused(holderToken({ typ }));
  }
  await expectRefused(withHeader({ typ: 'pantheon-key+jwt' }));
  for (const typ of ['at+jwt', 'application/at+jwt', 'application/pantheon-key+jwt'])
    await expectRefused(holderToken({ typ }));
  // A holder who says all that an access token says.
  const claims = { ...takeApart(access).payload, client_id: takeApart(keySigned).payload['client_id'] };
  await expectRefused(holderToken({ typ: 'at+jwt' }, claims));
  expect(await auth.verify({ key: access })).toMatchObject({ valid: false, secretVerified: false });
  expect(await auth.tokens.verify({ token: holderKey })).toMatchObject({ valid: false, secretVerified: false });
  const header = (name: string) => (name === 'authorization' ? [`Bearer ${access}`] : []);
  const keysOnly = await auth.authenticate({ url: '/', address: null, header }, { accept: ['api_key'] });
  expect(keysOnly.authenticated ? null : keysOnly.refusal.code).toBe('invalid_key');
});

test('a token that is too long is refused before it is parsed', async () => {
  for (const length of [8_193, 65_536, 1_000_000, 16_000_000]) {
    const tokens = [access.padEnd(length, 'A'), `${'A'.repeat(length)}.${'A'.repeat(length)}.A`, '.'.repeat(length)];
    // The least of several: what collects garbage or compiles meanwhile is not the work that is meant.
    const spentMs: number[] = [];
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const started = process.cpuUsage();
      for (const token of tokens) await expectRefused(token);
      const { user, system } = process.cpuUsage(started);
      spentMs.push((user + system) / 1_000);
    }
    expect(Math.min(...spentMs)).toBeLessThan(ANSWER_MAX_MS);
  }
  expect((await overHttp(access.padEnd(12_000, 'A'))).status).toBe(401);
});

test('headers of 16 MB are cut off at the socket and the service continues', async () => {
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = service.app.server.address() as AddressInfo;
  const answer = await new Promise<string>((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(`GET /v1/self HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${access}`);
      const flood = (left: number): void => {
        if (left > 0 && !socket.destroyed) socket.write('A'.repeat(65_536), () => flood(left - 1));
      };
      flood(256);
    });
    socket.on('data', (bytes) => {
      text += bytes;
      if (text.includes('\r\n\r\n')) resolve(text);
    });
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
    socket.setTimeout(5_000, () => reject(new Error('no answer')));
  });
  // Either told, or cut off while we were still sending: never read to the end.
  expect(answer === '' || answer.startsWith('HTTP/1.1 431 ')).toBe(true);
  await expectGoodTokensGoOn();
});

test('the published keys are public, the same in every answer, and cannot be changed', async () => {
  const url = '/.well-known/jwks.json';
  const read = await service.call({ method: 'GET', url });
  const { keys } = read.json() as { keys: Record<string, unknown>[] };
  expect(new Set(keys.map(({ alg }) => alg))).toEqual(new Set(['ES256', 'Ed25519', 'RS256']));
  for (const jwk of keys) {
    const names = Object.keys(jwk);
    expect(['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'].filter((name) => names.includes(name))).toEqual([]);
    expect(jwk).toMatchObject({ use: 'sig', kid: expect.any(String), kty: expect.stringMatching(/^(?:EC|OKP|RSA)$/) });
  }
  for (const method of ['PUT', 'POST', 'PATCH', 'DELETE'] as const) {
    const answer = await service.call({ method, url, by: service.root, payload: { keys: [] } });
    expect(answer).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD, OPTIONS' } });
  }
  expect((await service.call({ method: 'GET', url })).text).toBe(read.text);
});

test('reading the keys while they are replaced always gives a complete set that verifies all valid tokens', async () => {
  const rotations = Promise.all(
    ['ES256', 'Ed25519', 'ES256'].map((alg) => auth.tokens.rotateSigningKey(alg as 'ES256')),
  );
  const reads = Array.from({ length: 300 }, () => service.call({ method: 'GET', url: '/.well-known/jwks.json' }));
  const { kid } = takeApart(access).header;
  for (const answer of await Promise.all(reads)) {
    const { keys } = answer.json() as { keys: { kid: string }[] };
    expect(new Set(keys.map((key) => key.kid)).size).toBe(keys.length);
    expect(keys.map((key) => key.kid)).toContain(kid);
  }
  await rotations;
  await expectGoodTokensGoOn();
});

test('the issuer is not taken from the request', async () => {
  const headers = {
    host: 'evil.example',
    'x-forwarded-host': 'evil.example',
    'x-forwarded-proto': 'https',
    forwarded: 'host=evil.example',
  };
  const url = '/.well-known/oauth-authorization-server';
  const metadata = await service.call({ method: 'GET', url, headers });
  expect(metadata.json()).toMatchObject({ issuer: ISSUER, token_endpoint: `${ISSUER}/oauth2/token` });
  const form = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: holderKey,
    subject_token_type: 'urn:pantheon-auth:params:oauth:token-type:api-key',
  });
  const token = await service.call({
    method: 'POST',
    url: '/oauth2/token',
    headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
    payload: form.toString(),
    secret: true,
  });
  expect(takeApart(String(token.json()['access_token'])).payload).toMatchObject({ iss: ISSUER, aud: ISSUER });
  for (const path of [url, '/', '/openapi.json', '/readyz', '/nowhere']) {
    expect((await service.call({ method: 'GET', url: path, headers })).text).not.toContain('evil.example');
  }
});

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
