import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import type { PantheonAuth, Principal } from '../index.ts';
import { authenticateFetch, requirePermission, withAuth } from './fetch.ts';

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

const requestOf = (credential: string): Request =>
  new Request('https://api.example.com/docs', { headers: { 'x-api-key': credential } });

test('the handler gets the principal and the arguments of the platform', async () => {
  interface Connection {
    readonly hostname: string;
  }
  const guarded = withAuth<[Connection]>(
    auth,
    { address: (_request, { hostname }) => hostname },
    (_request, principal, connection) => {
      expectTypeOf(principal).toEqualTypeOf<Principal>();
      expectTypeOf(connection).toEqualTypeOf<Connection>();
      return Response.json([principal.name, connection.hostname]);
    },
  );
  expect(await (await guarded(requestOf(boundKey), { hostname: '192.0.2.7' })).json()).toEqual(['bound', '192.0.2.7']);
  expect((await guarded(requestOf(boundKey), { hostname: '198.51.100.1' })).status).toBe(403);
});

test('a handler is not called without a valid credential', async () => {
  const reached: string[] = [];
  const guarded = withAuth(auth, { permissions: ['docs:write'] }, () => {
    reached.push('handler');
    return new Response();
  });
  expect((await guarded(requestOf('x'))).status).toBe(401);
  expect((await guarded(requestOf(key))).status).toBe(403);
  expect((await guarded(requestOf(boundKey))).status).toBe(403);
  expect(reached).toEqual([]);
});

test('an immutable response is answered as a copy with the headers added', async () => {
  const answer = await withAuth(auth, {}, () => Response.redirect('https://example.com/', 303))(requestOf(key));
  expect([answer.status, answer.headers.get('location')]).toEqual([303, 'https://example.com/']);
  expect(answer.headers.get('vary')).toBe('Authorization, X-API-Key');
  expect(answer.headers.get('ratelimit')).toMatch(/^"burst";r=\d+;t=\d+$/);
});

test('a value that is not a response stays as it is', async () => {
  const failed = Response.error();
  expect(await withAuth(auth, {}, () => failed)(requestOf(key))).toBe(failed);
});

test('caching headers of the handler stay', async () => {
  const headers = { vary: 'Accept', 'cache-control': 'private, max-age=5' };
  const answer = await withAuth(auth, {}, () => new Response('x', { headers }))(requestOf(key));
  expect(answer.headers.get('vary')).toBe('Accept, Authorization, X-API-Key');
  expect(answer.headers.get('cache-control')).toBe('private, max-age=5');
});

test('authenticating alone gives the principal or the response to send', async () => {
  const yes = await authenticateFetch(auth, requestOf(key));
  expect(yes).toMatchObject({ authenticated: true, principal: { name: 'reader' } });
  const no = await authenticateFetch(auth, requestOf('x'), { permissions: ['docs:read'] });
  if (no.authenticated) throw new Error('Let in without a key.');
  expect(no.refusal).toMatchObject({ code: 'invalid_key', cause: 'malformed' });
  expect(no.response.status).toBe(401);
  expect(no.response.headers.get('vary')).toBe('Authorization, X-API-Key');
  expect(await no.response.json()).toEqual(no.refusal.body);
});

test('a handler that requires more is closed to requests without a principal', async () => {
  const write = requirePermission('docs:write', () => new Response('written'));
  const yes = await authenticateFetch(auth, requestOf(key));
  if (!yes.authenticated) throw new Error('The key of the test is valid.');
  expect(() => write(requestOf(key), yes.principal)).toThrow('this route has no pantheonAuth');
  expect(() => requirePermission('docs:*', () => new Response())).toThrow('permissions[0]');
});

test('an engine that fails accepts no request', async () => {
  const failing = { authenticate: () => Promise.reject(new Error('A mistake of ours.')) };
  await expect(withAuth(failing, {}, () => new Response('open'))(requestOf(key))).rejects.toThrow('A mistake of ours.');
});
