import type { AddressInfo } from 'node:net';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import type { PantheonAuth, Principal, Refusal } from '../index.ts';
import { pantheonAuth, principalOf, requirePermission } from './express.ts';

let engine: TestEngine;
let auth: PantheonAuth;
let key = '';
let boundKey = '';

beforeAll(async () => {
  engine = await openTestEngine();
  ({ auth } = engine);
  key = (await auth.keys.create({ userId: 'user-1', name: 'reader', permissions: ['docs:read'] })).key;
  boundKey = (await auth.keys.create({ userId: 'user-1', name: 'bound', ipAllowlist: ['192.0.2.0/24'] })).key;
});

afterAll(() => engine.close());

/** Asks a running copy of the application. */
async function ask(app: Express, path: string, headers: Readonly<Record<string, string>> = {}) {
  const server = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, { headers });
    return { status: answer.status, headers: answer.headers, body: await answer.text() };
  } finally {
    server.close();
  }
}

const name = (req: Request, res: Response): void => void res.send(principalOf(req).name);

test('reading the principal of an unguarded route is an error, never undefined', async () => {
  expectTypeOf(principalOf).returns.toEqualTypeOf<Principal>();
  const app = express();
  const seen: unknown[] = [];
  app.get('/open', name);
  app.get('/narrowed', requirePermission('docs:read'), name);
  app.use((error: unknown, _req: Request, res: Response, _next: NextFunction) => {
    seen.push(error);
    res.sendStatus(500);
  });
  expect((await ask(app, '/open', { 'x-api-key': key })).status).toBe(500);
  expect((await ask(app, '/narrowed', { 'x-api-key': key })).status).toBe(500);
  expect(seen).toMatchObject([{ code: 'internal_error' }, { code: 'internal_error' }]);
});

test('invalid options stop the program and are not shown to callers', () => {
  const invalid = expect.objectContaining({ code: 'invalid_setting', field: 'permissions[0]' });
  expect(() => pantheonAuth(auth, { permissions: ['docs:*'] })).toThrow(invalid);
  expect(() => requirePermission('Docs Read')).toThrow(invalid);
  for (const cost of [-1, 0.5, Number.NaN, 1e9])
    expect(() => pantheonAuth(auth, { cost })).toThrow(expect.objectContaining({ field: 'cost' }));
});

test('caching headers set by others stay', async () => {
  const app = express();
  app.use((_req, res, next) => {
    res.setHeader('Vary', 'Origin');
    res.setHeader('Cache-Control', 'private, max-age=5');
    next();
  });
  app.use(pantheonAuth(auth), pantheonAuth(auth));
  app.get('/', name);
  const { headers } = await ask(app, '/', { 'x-api-key': key });
  expect(headers.get('vary')).toBe('Origin, Authorization, X-API-Key');
  expect(headers.get('cache-control')).toBe('private, max-age=5');
});

test('a handler may allow its answer to be stored', async () => {
  const app = express();
  app.get('/', pantheonAuth(auth), (_req, res) => void res.set('Cache-Control', 'private').send('x'));
  expect((await ask(app, '/', { 'x-api-key': key })).headers.get('cache-control')).toBe('private');
});

test('a key in the part of the path that a mount removes is refused', async () => {
  const app = express();
  app.use('/of/:key', pantheonAuth(auth), name);
  const { status, body } = await ask(app, `/of/${key}/x`, { 'x-api-key': key });
  expect([status, JSON.parse(body).code]).toEqual([400, 'credential_in_url']);
  expect(body).not.toContain(key);
});

test('the address is that of the socket, whatever a header says, unless the application configures it', async () => {
  const headers = { 'x-api-key': boundKey, 'x-forwarded-for': '192.0.2.7', forwarded: 'for=192.0.2.7' };
  const app = express().set('trust proxy', 'loopback');
  app.get('/socket', pantheonAuth(auth), name);
  app.get('/proxy', pantheonAuth(auth, { address: (req) => req.ip }), name);
  app.get('/nowhere', pantheonAuth(auth, { address: () => undefined }), name);
  expect(JSON.parse((await ask(app, '/socket', headers)).body).code).toBe('ip_not_allowed');
  expect((await ask(app, '/proxy', headers)).body).toBe('bound');
  expect(JSON.parse((await ask(app, '/nowhere', headers)).body).code).toBe('ip_not_allowed');
});

test('a refusal contains the id of the request, if it is valid', async () => {
  const app = express();
  app.use(pantheonAuth(auth, { requestId: (req) => req.get('x-request-id') }));
  app.get('/', requirePermission('docs:write'));
  const instanceOf = async (id: string, credential: string): Promise<unknown> =>
    JSON.parse((await ask(app, '/', { 'x-request-id': id, 'x-api-key': credential })).body).instance;
  expect(await instanceOf('a-1', 'x')).toBe('urn:pantheon-auth:request:a-1');
  expect(await instanceOf('a-2', key)).toBe('urn:pantheon-auth:request:a-2');
  expect(await instanceOf('"><img>', 'x')).toBeUndefined();
  expect(await instanceOf('x'.repeat(129), 'x')).toBeUndefined();
});

test('the operator is told the cause of every refusal', async () => {
  const causes: unknown[] = [];
  const onRefused = ({ code, cause, keyId }: Refusal, req: Request) => void causes.push([req.path, code, cause, keyId]);
  const app = express();
  app.use(pantheonAuth(auth, { onRefused }));
  app.get('/narrow', requirePermission(['docs:read', 'docs:write']), name);
  await ask(app, '/', { 'x-api-key': 'x' });
  await ask(app, '/narrow', { 'x-api-key': key });
  expect(causes).toEqual([
    ['/', 'invalid_key', 'malformed', null],
    ['/narrow', 'insufficient_permissions', 'insufficient_permissions', key.slice(9, 25)],
  ]);
});

test('settings of the application do not change the body of a refusal', async () => {
  const app = express().set('json spaces', 2).set('json escape', true);
  app.use(pantheonAuth(auth));
  const { body } = await ask(app, '/');
  expect(body).toBe(JSON.stringify(JSON.parse(body)));
});
