import { type FastifyRequest, fastify } from 'fastify';
import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import type { AuthenticateOptions, PantheonAuth, Principal } from '../index.ts';
import { pantheonAuth, requirePermission } from './fastify.ts';

let engine: TestEngine;
let auth: PantheonAuth;
let reader = '';
let writer = '';

beforeAll(async () => {
  engine = await openTestEngine();
  ({ auth } = engine);
  reader = (await auth.keys.create({ userId: 'user-1', name: 'reader', permissions: ['docs:read'] })).key;
  writer = (await auth.keys.create({ userId: 'user-2', name: 'writer', permissions: ['docs:write'] })).key;
});

afterAll(() => engine.close());

const name = async (request: FastifyRequest): Promise<string> => request.principal.name;
const as = (key: string) => ({ 'x-api-key': key });

test('it guards the scope that registers it and all below, and no other', async () => {
  await using app = fastify();
  await app.register(async (guarded) => {
    await guarded.register(pantheonAuth(auth));
    guarded.get('/inside', name);
    await guarded.register(async (below) => below.get('/below', name));
  });
  app.get('/outside', async () => 'open');
  expectTypeOf<FastifyRequest['principal']>().toEqualTypeOf<Principal>();
  for (const url of ['/inside', '/below']) {
    expect((await app.inject({ url })).statusCode).toBe(401);
    expect((await app.inject({ url, headers: as(reader) })).body).toBe('reader');
  }
  expect((await app.inject('/outside')).body).toBe('open');
});

test('at the root it guards every route, also those declared before it was ready and those that do not exist', async () => {
  await using app = fastify();
  app.register(pantheonAuth(auth));
  app.get('/', name);
  expect((await app.inject('/')).statusCode).toBe(401);
  expect((await app.inject('/nothing')).statusCode).toBe(401);
  expect((await app.inject({ url: '/nothing', headers: as(reader) })).statusCode).toBe(404);
});

test('a route may be public, and then has no principal', async () => {
  await using app = fastify();
  await app.register(pantheonAuth(auth));
  app.get('/health', { config: { pantheonAuth: false } }, async () => 'ok');
  app.get('/mistake', { config: { pantheonAuth: false } }, name);
  expect((await app.inject('/health')).body).toBe('ok');
  expect((await app.inject({ url: '/mistake', headers: as(reader) })).statusCode).toBe(500);
});

test('a route can require more than the plugin, never less', async () => {
  await using app = fastify();
  await app.register(pantheonAuth(auth, { permissions: ['docs:read'] }));
  app.get('/', { config: { pantheonAuth: { permissions: ['docs:write'] } } }, name);
  app.get('/other', { config: { pantheonAuth: { environment: 'live' } } }, name);
  const missing = async (url: string, key: string): Promise<unknown> =>
    (await app.inject({ url, headers: as(key) })).json().detail;
  expect(await missing('/', reader)).toBe('The permission docs:write is missing.');
  expect(await missing('/', reader)).toBe('The permission docs:write is missing.');
  expect(await missing('/', writer)).toBe('The permission docs:read is missing.');
  expect(await missing('/other', writer)).toBe('The permission docs:read is missing.');
});

test('invalid options of a route are an internal error, and close the route', async () => {
  await using app = fastify();
  await app.register(pantheonAuth(auth));
  const wrong = [
    { permissions: ['docs:*'] },
    { permissions: [] },
    { permission: ['docs:read'] },
    { tenant: undefined },
  ];
  for (const [n, demand] of wrong.entries())
    app.get(`/${n}`, { config: { pantheonAuth: demand as AuthenticateOptions } }, name);
  for (const n of wrong.keys())
    expect((await app.inject({ url: `/${n}`, headers: as(reader) })).statusCode, `${n}`).toBe(500);
  expect(() => pantheonAuth(auth, { permissions: ['docs:*'] })).toThrow('permissions[0]');
  expect(() => requirePermission('*')).toThrow('permissions[0]');
});

test('a scope within a guarded scope may be guarded again', async () => {
  await using app = fastify();
  await app.register(pantheonAuth(auth));
  await app.register(async (inner) => {
    await inner.register(pantheonAuth(auth, { permissions: ['docs:write'] }));
    inner.get('/inner', name);
  });
  expect((await app.inject({ url: '/inner', headers: as(reader) })).statusCode).toBe(403);
  const { body, headers } = await app.inject({ url: '/inner', headers: as(writer) });
  expect([body, headers['vary']]).toEqual(['writer', 'Authorization, X-API-Key']);
});

test('a response schema of the route does not change a refusal', async () => {
  await using app = fastify();
  await app.register(pantheonAuth(auth));
  const schema = { response: { '4xx': { type: 'object', properties: {} } } };
  app.get('/', { schema, onRequest: requirePermission('docs:write') }, name);
  expect((await app.inject('/')).json()).toMatchObject({ code: 'missing_credential' });
  expect((await app.inject({ url: '/', headers: as(reader) })).json()).toMatchObject({
    code: 'insufficient_permissions',
  });
});

test('caching headers set by others stay', async () => {
  await using app = fastify();
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('vary', ['Origin', 'Accept']).header('cache-control', 'private');
  });
  await app.register(pantheonAuth(auth));
  app.get('/', name);
  const { headers } = await app.inject({ url: '/', headers: as(reader) });
  expect(headers['vary']).toBe('Origin, Accept, Authorization, X-API-Key');
  expect(headers['cache-control']).toBe('private');
});
