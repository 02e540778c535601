/** One table of cases that every adapter answers alike, each inside its real framework and over a real socket. */
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { serve } from '@hono/node-server';
import express from 'express';
import { fastify } from 'fastify';
import { Hono } from 'hono';
import { type Item, isInnerList, parseList } from 'structured-headers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { APIKeyGenerator, formatKey, type PantheonAuth, parseKey } from '../index.ts';
import type { Principal } from '../middleware.ts';
import * as forExpress from './express.ts';
import * as forFastify from './fastify.ts';
import * as forFetch from './fetch.ts';
import type { RequestAuthenticator } from './guard.ts';
import * as forHono from './hono.ts';

interface Site extends AsyncDisposable {
  readonly port: number;
}

interface Engines {
  readonly auth: RequestAuthenticator;
  /** Its store is gone. */
  readonly broken: RequestAuthenticator;
}

const WRITE = ['docs:write'];
const PROXIES = ['127.0.0.1', '10.0.0.0/8'];
const view = ({ kind, keyId, userId, permissions, token }: Principal) => ({
  kind,
  keyId,
  userId,
  permissions,
  subject: token?.subject ?? null,
});

/** Each serves the same routes in the way of its framework. */
const ADAPTERS: Readonly<Record<string, (engines: Engines) => Promise<Site>>> = {
  express: async ({ auth, broken }) => {
    const { pantheonAuth, principalOf, requirePermission } = forExpress;
    const app = express();
    const answer: express.RequestHandler = (req, res) => void res.json(view(principalOf(req)));
    app.use('/broken', pantheonAuth(broken), answer);
    app.use('/ask', pantheonAuth(auth, { permissions: WRITE }), answer);
    app.use('/tokens', pantheonAuth(auth, { accept: ['token'] }), answer);
    app.use('/proxied', pantheonAuth(auth, { trustedProxies: PROXIES }), answer);
    app.use(pantheonAuth(auth));
    app.all('/me', express.urlencoded(), answer);
    app.all('/narrow', requirePermission('docs:write'), answer);
    return listening(createServer(app));
  },
  fastify: async ({ auth, broken }) => {
    const { pantheonAuth, requirePermission } = forFastify;
    const app = fastify();
    const answer = async (request: { readonly principal: Principal }) => view(request.principal);
    app.addContentTypeParser('application/x-www-form-urlencoded', (_request, body, done) => {
      body.resume().on('end', () => done(null, null));
    });
    await app.register(async (scope) => {
      await scope.register(pantheonAuth(broken));
      scope.all('/broken', answer);
    });
    await app.register(async (scope) => {
      await scope.register(pantheonAuth(auth, { trustedProxies: PROXIES }));
      scope.all('/proxied', answer);
    });
    await app.register(async (scope) => {
      await scope.register(pantheonAuth(auth));
      scope.all('/me', answer);
      scope.all('/ask', { config: { pantheonAuth: { permissions: WRITE } } }, answer);
      scope.all('/tokens', { config: { pantheonAuth: { accept: ['token'] } } }, answer);
      scope.all('/narrow', { onRequest: requirePermission('docs:write') }, answer);
    });
    await app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = app.server.address() as AddressInfo;
    return { port, [Symbol.asyncDispose]: () => app.close() };
  },
  hono: async ({ auth, broken }) => {
    const { pantheonAuth, requirePermission } = forHono;
    const app = new Hono<forHono.AuthEnv>();
    app.all('/broken', pantheonAuth(broken), (c) => c.json(view(c.var.principal)));
    app.all('/ask', pantheonAuth(auth, { permissions: WRITE }), (c) => c.json(view(c.var.principal)));
    app.all('/tokens', pantheonAuth(auth, { accept: ['token'] }), (c) => c.json(view(c.var.principal)));
    app.all('/proxied', pantheonAuth(auth, { trustedProxies: PROXIES }), (c) => c.json(view(c.var.principal)));
    app.use(pantheonAuth(auth));
    app.all('/me', (c) => c.json(view(c.var.principal)));
    app.all('/narrow', requirePermission(WRITE), (c) => c.json(view(c.var.principal)));
    return listening(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server);
  },
  fetch: async ({ auth, broken }) => {
    const { requirePermission, withAuth } = forFetch;
    const answer = (_request: Request, principal: Principal): Response => Response.json(view(principal));
    const routes = new Map([
      ['/broken', withAuth(broken, {}, answer)],
      ['/ask', withAuth(auth, { permissions: WRITE }, answer)],
      ['/tokens', withAuth(auth, { accept: ['token'] }, answer)],
      ['/me', withAuth(auth, {}, answer)],
      ['/proxied', withAuth(auth, { trustedProxies: PROXIES, address: () => '::ffff:127.0.0.1' }, answer)],
      ['/narrow', withAuth(auth, {}, requirePermission('docs:write', answer))],
    ]);
    const fetch = (request: Request): Response | Promise<Response> =>
      routes.get(new URL(request.url).pathname)?.(request) ?? new Response(null, { status: 404 });
    return listening(serve({ fetch, port: 0, hostname: '127.0.0.1' }) as Server);
  },
};

async function listening(server: Server): Promise<Site> {
  if (!server.listening) {
    await new Promise<void>((resolve) => {
      server.once('listening', resolve);
      if (server.address() === null) server.listen(0, '127.0.0.1');
    });
  }
  const { port } = server.address() as AddressInfo;
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()).closeAllConnections());
  return { port, [Symbol.asyncDispose]: close };
}

type HeaderLines = readonly (readonly [name: string, value: string])[];

interface Sent {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: HeaderLines;
  readonly body?: string;
}

interface Received {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** Sends header lines as they are given, also the same name twice. */
function send(site: Site, { path = '/me', method = 'GET', headers = [], body }: Sent): Promise<Received> {
  const length: HeaderLines = body === undefined ? [] : [['Content-Length', String(Buffer.byteLength(body))]];
  const lines: HeaderLines = [['Host', `127.0.0.1:${site.port}`], ['Connection', 'close'], ...length, ...headers];
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port: site.port, path, method, headers: lines.flat() });
    request.on('error', reject).on('response', (response) => {
      const chunks: Buffer[] = [];
      response
        .on('data', (chunk: Buffer) => chunks.push(chunk))
        .on('end', () => {
          const { statusCode = 0, headers } = response;
          resolve({ status: statusCode, headers, body: Buffer.concat(chunks).toString() });
        });
    });
    request.end(body);
  });
}

/** What is the same whatever framework answers. */
function essence({ status, headers, body }: Received): object {
  const names = [
    'content-type',
    'cache-control',
    'www-authenticate',
    'retry-after',
    'ratelimit',
    'ratelimit-policy',
    'vary',
  ];
  return { status, body, headers: Object.fromEntries(names.map((name) => [name, headers[name]])) };
}

const sites = new Map<string, Site>();
let engine: TestEngine;
let broken: TestEngine;
let auth: PantheonAuth;
let key = '';
let keyId = '';
let writer = '';
/** Well formed, with the id of a key that exists. */
let wrongSecret = '';
const { key: unknownId } = new APIKeyGenerator().generateKey();

beforeAll(async () => {
  engine = await openTestEngine();
  ({ auth } = engine);
  broken = await openTestEngine();
  for (const file of ['pantheon-auth.db', 'pantheon-auth.db-wal']) {
    const path = join(broken.dataDir, file);
    await writeFile(path, (await readFile(path)).fill(0xff), { flag: 'r+' });
  }
  const jwt = { algorithm: 'HS256' } as const;
  const reader = await auth.keys.create({ userId: 'user-1', name: 'reader', permissions: ['docs:read'], jwt });
  key = reader.key;
  keyId = reader.apiKey.id;
  writer = (await auth.keys.create({ userId: 'user-2', name: 'writer', permissions: ['docs:*'] })).key;
  const parsed = parseKey(unknownId);
  if (parsed === null) throw new Error('A generated key is well formed.');
  wrongSecret = formatKey({ ...parsed, id: keyId });
  for (const [name, start] of Object.entries(ADAPTERS)) sites.set(name, await start({ auth, broken: broken.auth }));
});

afterAll(async () => {
  for (const site of sites.values()) await site[Symbol.asyncDispose]();
  await engine.close();
  await broken.close().catch(() => undefined);
});

// Failures of this address are forgiven with time, and windows of limits pass.
beforeEach(() => engine.clock.advance(120_000));

const bearer = (credential: string): HeaderLines => [['Authorization', `Bearer ${credential}`]];
const xApiKey = (credential: string): HeaderLines => [['X-API-Key', credential]];

async function tokenOf(credential: string): Promise<string> {
  const exchange = await auth.tokens.exchange({ key: credential });
  if (!exchange.issued) throw new Error('The key of the test is valid.');
  return exchange.token.token;
}

interface Case {
  readonly name: string;
  readonly sent: () => Sent | Promise<Sent>;
  readonly status: number;
  /** Of the problem; none when the request passes. */
  readonly code?: string;
  readonly challenge?: string;
}

const invalid = { status: 401, code: 'invalid_key', challenge: 'Bearer realm="pantheon-auth", error="invalid_token"' };
const ambiguous = {
  status: 400,
  code: 'ambiguous_credential',
  challenge: 'Bearer realm="pantheon-auth", error="invalid_request"',
};
const exposed = { ...ambiguous, code: 'credential_in_url' };
const missing = { status: 401, code: 'missing_credential', challenge: 'Bearer realm="pantheon-auth"' };
const forbidden = {
  status: 403,
  code: 'insufficient_permissions',
  challenge: 'Bearer realm="pantheon-auth", error="insufficient_scope", scope="docs:write"',
};
const form: HeaderLines = [['Content-Type', 'application/x-www-form-urlencoded']];

const CASES: readonly Case[] = [
  { name: 'a key in Authorization passes', sent: () => ({ headers: bearer(key) }), status: 200 },
  { name: 'a key in X-API-Key passes', sent: () => ({ headers: xApiKey(key) }), status: 200 },
  { name: 'a token in Authorization passes', sent: async () => ({ headers: bearer(await tokenOf(key)) }), status: 200 },
  { name: 'a token in X-API-Key passes', sent: async () => ({ headers: xApiKey(await tokenOf(writer)) }), status: 200 },
  { name: 'a lower-case scheme passes', sent: () => ({ headers: [['authorization', `bearer ${key}`]] }), status: 200 },
  { name: 'an upper-case scheme passes', sent: () => ({ headers: [['AUTHORIZATION', `BEARER ${key}`]] }), status: 200 },
  { name: 'a permission that is held passes', sent: () => ({ path: '/ask', headers: bearer(writer) }), status: 200 },
  { name: 'narrowing to what is held passes', sent: () => ({ path: '/narrow', headers: bearer(writer) }), status: 200 },
  { name: 'no credential is told apart', sent: () => ({}), ...missing },
  {
    name: 'a key in a cookie is not seen',
    sent: () => ({ headers: [['Cookie', `authorization=${key}`]] }),
    ...missing,
  },
  {
    name: 'a key in a form is not seen',
    sent: () => ({ method: 'POST', headers: form, body: `access_token=${key}&api_key=${key}` }),
    ...missing,
  },
  {
    name: 'other headers are not looked at',
    sent: () => ({ headers: [['Proxy-Authorization', `Bearer ${key}`]] }),
    ...missing,
  },
  {
    name: 'two Authorization headers are refused',
    sent: () => ({ headers: [...bearer(key), ...bearer(key)] }),
    ...ambiguous,
  },
  {
    name: 'two X-API-Key headers are refused',
    sent: () => ({ headers: [...xApiKey(key), ...xApiKey(key)] }),
    ...ambiguous,
  },
  {
    name: 'the same key in both headers passes, as generated clients send it',
    sent: () => ({ headers: [...bearer(key), ...xApiKey(key)] }),
    status: 200,
  },
  {
    name: 'two keys in two headers are refused, valid both',
    sent: () => ({ headers: [...bearer(key), ...xApiKey(writer)] }),
    ...ambiguous,
  },
  {
    name: 'a key and its beginning in two headers are refused',
    sent: () => ({ headers: [...bearer(key), ...xApiKey(key.slice(0, -1))] }),
    ...ambiguous,
  },
  {
    name: 'a key and its token in two headers are refused',
    sent: async () => ({ headers: [...bearer(key), ...xApiKey(await tokenOf(key))] }),
    ...ambiguous,
  },
  {
    name: 'a key beside another scheme is refused',
    sent: () => ({ headers: [['Authorization', `Basic ${key}`], ...xApiKey(key)] }),
    ...ambiguous,
  },
  {
    name: 'one key three times is refused',
    sent: () => ({ headers: [...bearer(key), ...xApiKey(key), ...xApiKey(key)] }),
    ...ambiguous,
  },
  {
    name: 'an empty second header is refused',
    sent: () => ({ headers: [...bearer(key), ['Authorization', '']] }),
    ...ambiguous,
  },
  {
    name: 'credentials with a comma are refused',
    sent: () => ({ headers: bearer(`${key}, Bearer ${key}`) }),
    ...ambiguous,
  },
  { name: 'a key in the query is refused', sent: () => ({ path: `/me?key=${key}`, headers: bearer(key) }), ...exposed },
  {
    name: 'an escaped key in the query is refused',
    sent: () => ({ path: `/me?k=${key.replaceAll('_', '%5F')}` }),
    ...exposed,
  },
  {
    name: 'a token in the query is refused',
    sent: async () => ({ path: `/me?access_token=${await tokenOf(key)}`, headers: bearer(key) }),
    ...exposed,
  },
  {
    name: 'a valid key under Basic is refused',
    sent: () => ({ headers: [['Authorization', `Basic ${key}`]] }),
    ...invalid,
  },
  {
    name: 'a valid key under Token is refused',
    sent: () => ({ headers: [['Authorization', `Token ${key}`]] }),
    ...invalid,
  },
  {
    name: 'a valid key under ApiKey is refused',
    sent: () => ({ headers: [['Authorization', `ApiKey ${key}`]] }),
    ...invalid,
  },
  { name: 'a valid key without a scheme is refused', sent: () => ({ headers: [['Authorization', key]] }), ...invalid },
  { name: 'a scheme in X-API-Key is refused', sent: () => ({ headers: xApiKey(`Bearer ${key}`) }), ...invalid },
  { name: 'two spaces are refused', sent: () => ({ headers: bearer(` ${key}`) }), ...invalid },
  { name: 'a tab is refused', sent: () => ({ headers: [['Authorization', `Bearer\t${key}`]] }), ...invalid },
  { name: 'a scheme alone is refused', sent: () => ({ headers: [['Authorization', 'Bearer']] }), ...invalid },
  { name: 'an empty header is refused', sent: () => ({ headers: [['Authorization', '']] }), ...invalid },
  { name: 'a huge header is refused', sent: () => ({ headers: bearer('a'.repeat(12_000)) }), ...invalid },
  { name: 'bytes beyond ASCII are refused', sent: () => ({ headers: bearer(`${key}\u00e9`) }), ...invalid },
  {
    name: 'UTF-8 in a header is refused',
    sent: () => ({ headers: xApiKey(Buffer.from(`ｐ${key.slice(1)}`).toString('latin1')) }),
    ...invalid,
  },
  { name: 'a key that lost a character is refused', sent: () => ({ headers: bearer(key.slice(0, -1)) }), ...invalid },
  { name: 'an unknown id is refused', sent: () => ({ headers: bearer(unknownId) }), ...invalid },
  { name: 'a wrong secret is refused', sent: () => ({ headers: bearer(wrongSecret) }), ...invalid },
  {
    name: 'a key where tokens are wanted is refused',
    sent: () => ({ path: '/tokens', headers: bearer(key) }),
    ...invalid,
  },
  { name: 'a missing permission is named', sent: () => ({ path: '/ask', headers: bearer(key) }), ...forbidden },
  { name: 'narrowing names it the same way', sent: () => ({ path: '/narrow', headers: bearer(key) }), ...forbidden },
  {
    name: 'a store that is damaged is no verdict, and nothing to try again',
    sent: () => ({ path: '/broken', headers: bearer(key) }),
    status: 503,
    code: 'store_unusable',
  },
];

describe.each([...Object.keys(ADAPTERS)])('%s', (adapter) => {
  const site = (): Site => sites.get(adapter) ?? { port: 0, [Symbol.asyncDispose]: async () => undefined };

  test.each(CASES)('$name', async ({ sent, status, code, challenge }) => {
    const received = await send(site(), await sent());
    expect(received.status).toBe(status);
    expect(received.headers['vary']).toBe('Authorization, X-API-Key');
    expect(received.headers['cache-control']).toBe('no-store');
    expect(received.headers['www-authenticate']).toBe(challenge);
    // A damaged store stays so until somebody repairs it.
    expect(received.headers['retry-after']).toBeUndefined();
    if (code === undefined) return;
    expect(received.headers['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(JSON.parse(received.body)).toMatchObject({ code, status });
    for (const secret of [key, writer, wrongSecret]) expect(received.body).not.toContain(secret.slice(25));
  });

  test('the handler gets the principal, by a key or by a token', async () => {
    const byKey = await send(site(), { headers: bearer(key) });
    const byToken = await send(site(), { headers: xApiKey(await tokenOf(key)) });
    const who = { keyId, userId: 'user-1', permissions: ['docs:read'] };
    expect(JSON.parse(byKey.body)).toEqual({ ...who, kind: 'api_key', subject: null });
    expect(JSON.parse(byToken.body)).toEqual({ ...who, kind: 'token', subject: keyId });
  });

  test('a caller without a valid secret gets the same bytes, whatever is wrong (I12)', async () => {
    const answers = await Promise.all(
      ['', 'x', key.slice(0, -1), unknownId, wrongSecret].map((wrong) => send(site(), { headers: xApiKey(wrong) })),
    );
    const seen = new Set(answers.map((answer) => JSON.stringify(essence(answer))));
    expect(seen.size).toBe(1);
    expect(new Set(answers.map(({ headers }) => Object.keys(headers).join())).size).toBe(1);
  });

  test('limits are in the headers of an acceptance, and end in a 429', async () => {
    const limited = await auth.keys.create({
      userId: 'user-3',
      name: 'limited',
      rateLimits: [
        { name: 'burst', limit: 1, window: '1m' },
        { name: 'hour', limit: 10, window: '1h' },
      ],
    });
    const yes = await send(site(), { headers: bearer(limited.key) });
    expect(yes.status).toBe(200);
    expect(limitsOf(yes, 'ratelimit-policy')).toEqual({ burst: { q: 1, w: 60 }, hour: { q: 10, w: 3_600 } });
    expect(limitsOf(yes, 'ratelimit')).toMatchObject({ burst: { r: 0 }, hour: { r: 9 } });
    const no = await send(site(), { headers: bearer(limited.key) });
    expect(no.status).toBe(429);
    expect(JSON.parse(no.body)).toMatchObject({ code: 'rate_limited', 'violated-policies': ['burst'] });
    const { burst } = limitsOf(no, 'ratelimit');
    expect(burst?.['r']).toBe(0);
    expect(Number(no.headers['retry-after'])).toBeGreaterThanOrEqual(Number(burst?.['t']));
  });

  test('an address with many wrong guesses gets the answer of each, and a valid key from there is accepted', async () => {
    const guess = () => send(site(), { headers: bearer(new APIKeyGenerator().generateKey().key) });
    const first = await guess().then((answer) => {
      expect(answer.status).toBe(401);
      return essence(answer);
    });
    for (let failures = 0; failures < 40; failures += 1) expect(essence(await guess())).toEqual(first);
    expect((await send(site(), { headers: bearer(key) })).status).toBe(200);
  });

  test('behind trusted proxies, every form of a hop is the same address', async () => {
    const { key: bound } = await auth.keys.create({ userId: 'u', name: 'bound', ipAllowlist: ['203.0.113.7'] });
    const { key: inside } = await auth.keys.create({ userId: 'u', name: 'inside', ipAllowlist: PROXIES });
    const from = async (credential: string, ...values: readonly string[]) => {
      const headers: HeaderLines = values.map((value) => ['X-Forwarded-For', value]);
      return (await send(site(), { path: '/proxied', headers: [...bearer(credential), ...headers] })).status;
    };
    for (const client of ['203.0.113.7', '203.0.113.7:51234', '[::ffff:203.0.113.7%eth0]:51234'])
      for (const proxy of ['10.0.0.5', '10.0.0.5:443', '[::ffff:10.0.0.5]:443']) {
        expect(await from(bound, `${client}, ${proxy}`)).toBe(200);
        expect(await from(bound, client, proxy)).toBe(200);
        expect(await from(inside, `${client}, ${proxy}`)).toBe(403);
      }
    for (const junk of ['', 'unknown', '10.0.0.5:']) expect(await from(inside, `203.0.113.7, ${junk}`)).toBe(403);
  });

  test('a refused HEAD request has the headers of its GET and no body', async () => {
    const head = await send(site(), { method: 'HEAD' });
    expect(essence(head)).toEqual({ ...essence(await send(site(), {})), body: '' });
  });
});

function limitsOf(received: Received, header: string): Readonly<Record<string, Record<string, unknown>>> {
  const list = parseList(String(received.headers[header])).filter((item): item is Item => !isInnerList(item));
  return Object.fromEntries(list.map(([name, parameters]) => [String(name), Object.fromEntries(parameters)]));
}

test.each([['0.0.0.0/0'], ['10.0.0.5:443'], ['loopback']])('%j is refused as a trusted proxy', (range) => {
  for (const { pantheonAuth } of [forExpress, forFastify, forHono])
    expect(() => pantheonAuth(auth, { trustedProxies: [range] })).toThrow(
      expect.objectContaining({ code: 'invalid_setting', field: 'trustedProxies' }),
    );
});

describe('all adapters', () => {
  test.each(CASES.filter(({ code }) => code !== undefined))('answer with the same bytes: $name', async ({ sent }) => {
    const asked = await sent();
    const answers = await Promise.all([...sites.values()].map(async (site) => essence(await send(site, asked))));
    for (const answer of answers) expect(answer).toEqual(answers[0]);
  });
});
