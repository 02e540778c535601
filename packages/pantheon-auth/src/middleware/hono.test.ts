import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import type { PantheonAuth, Principal } from '../index.ts';
import { type AuthEnv, pantheonAuth, requirePermission } from './hono.ts';

let engine: TestEngine;
let auth: PantheonAuth;
let key = '';
let boundKey = '';

beforeAll(async () => {
  engine = await openTestEngine();
  ({ auth } = engine);
  const rateLimits = [{ name: 'burst', limit: 100, window: '1m' }];
  key = (await auth.keys.create({ userId: 'user-1', name: 'reader', permissions: ['docs:read'], rateLimits })).key;
  boundKey = (await auth.keys.create({ userId: 'user-1', name: 'bound', ipAllowlist: ['192.0.2.0/24'] })).key;
});

afterAll(() => engine.close());

const as = (credential: string) => ({ headers: { 'x-api-key': credential } });

test('the types of every handler behind the middleware contain the principal', async () => {
  const app = new Hono().get('/', pantheonAuth(auth), (c) => {
    expectTypeOf(c.var.principal).toEqualTypeOf<Principal>();
    return c.text(c.var.principal.name);
  });
  expect(await (await app.request('/', as(key))).text()).toBe('reader');
});

test('every kind of answer has Vary and the headers of the limits', async () => {
  const app = new Hono<AuthEnv>();
  app.onError((_error, c) => c.text('', 500));
  app.use(pantheonAuth(auth));
  app.get('/json', (c) => c.json({}));
  app.get('/raw', () => new Response('raw'));
  app.get('/empty', (c) => c.body(null, 204));
  app.get('/elsewhere', () => Response.redirect('https://example.com/'));
  app.get('/broken', () => {
    throw new Error('A mistake of the application.');
  });
  const statuses = new Map([
    ['/json', 200],
    ['/raw', 200],
    ['/empty', 204],
    ['/elsewhere', 302],
    ['/broken', 500],
    ['/nothing', 404],
  ]);
  for (const [path, status] of statuses) {
    const { headers, status: received } = await app.request(path, as(key));
    expect(received).toBe(status);
    expect(headers.get('vary')).toBe('Authorization, X-API-Key');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('ratelimit')).toMatch(/^"burst";r=\d+;t=\d+$/);
  }
});

test('caching and CORS headers set by others stay', async () => {
  const app = new Hono<AuthEnv>();
  app.use(cors({ origin: 'https://app.example.com' }), pantheonAuth(auth));
  app.get('/', (c) => c.text('x', 200, { 'Cache-Control': 'private' }));
  for (const [credential, caching] of [
    [key, 'private'],
    ['x', 'no-store'],
  ] as const) {
    const asked = { 'x-api-key': credential, origin: 'https://app.example.com' };
    const { headers } = await app.request('/', { headers: asked });
    expect(headers.get('access-control-allow-origin')).toBe('https://app.example.com');
    expect(headers.get('vary')).toContain('Authorization, X-API-Key');
    expect(headers.get('cache-control')).toBe(caching);
  }
  expect((await app.request('/', { method: 'OPTIONS' })).status).toBe(204);
});

test('a route that requires more without being guarded is closed', async () => {
  const app = new Hono<AuthEnv>();
  const seen: unknown[] = [];
  app.onError((error, c) => {
    seen.push(error);
    return c.text('', 500);
  });
  app.get('/', requirePermission('docs:read'), (c) => c.text('open'));
  expect((await app.request('/', as(key))).status).toBe(500);
  expect(seen).toMatchObject([{ code: 'internal_error' }]);
  expect(() => requirePermission('docs:*')).toThrow('permissions[0]');
  expect(() => pantheonAuth(auth, { permissions: ['docs:*'] })).toThrow('permissions[0]');
});

test('without a known address, keys bound to addresses are refused; the application may supply it', async () => {
  const app = new Hono<AuthEnv>();
  app.get('/unknown', pantheonAuth(auth), (c) => c.text('in'));
  app.get('/known', pantheonAuth(auth, { address: (c) => c.req.header('x-real-ip') }), (c) => c.text('in'));
  const headers = { 'x-api-key': boundKey, 'x-real-ip': '192.0.2.7', 'x-forwarded-for': '192.0.2.7' };
  for (const env of [undefined, {}, { incoming: {} }, { incoming: { socket: { remoteAddress: 7 } } }]) {
    expect((await app.request('/unknown', { headers }, env)).status).toBe(403);
  }
  const socket = { incoming: { socket: { remoteAddress: '::ffff:192.0.2.7' } } };
  expect((await app.request('/unknown', { headers }, socket)).status).toBe(200);
  expect((await app.request('/known', { headers })).status).toBe(200);
});

test('a mounted application has the principal and may require more', async () => {
  const below = new Hono<AuthEnv>();
  below.get('/name', (c) => c.text(c.var.principal.name));
  below.get('/write', requirePermission('docs:write'), (c) => c.text('written'));
  const app = new Hono<AuthEnv>();
  app.use(pantheonAuth(auth)).route('/below', below);
  expect(await (await app.request('/below/name', as(key))).text()).toBe('reader');
  expect((await app.request('/below/write', as(key))).status).toBe(403);
});
