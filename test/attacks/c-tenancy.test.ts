/**
 * Attacks across tenants: what another tenant owns does not exist (I10). The matrix is generated from the OpenAPI file,
 * so a new route without a case fails here. What a caller may do within its own tenant is attacked in
 * `c-permissions.test.ts`.
 *
 * | not attacked here | because |
 * |---|---|
 * | dashboard sessions, webhook tests, export, alerts | they do not exist yet: their routes fail the matrix when they come |
 * | bulk calls with own and foreign ids | no route takes a list of ids |
 * | KMS references, webhook secrets behind a narrow read | they do not exist yet; that records hold no hash is asserted in `b-keys.test.ts` |
 */
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { type APIKey, type CreatedKey, PantheonError } from 'pantheon-auth';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  expectNoSecretWritten,
  keepSecret,
  openEngine,
  openService,
  type Request,
  type Service,
  tellable,
} from './harness.ts';

let service: Service;
let adminA: CreatedKey;
let adminB: CreatedKey;
let victim: CreatedKey;
let senders = 0;

const A = 'acme';
const B = 'bravo';
const NEVER_MADE = 'NeverMadeThisId0';

beforeAll(async () => {
  service = await openService();
  for (const id of [A, B]) await service.auth.tenants.create({ id });
  const admin = { permissions: ['pantheon:*'], grantable: ['*'] };
  adminA = await service.engine.create(admin, A);
  adminB = await service.engine.create(admin, B);
  victim = await service.engine.create(
    { userId: 'bob', permissions: ['docs:read'], metadata: { plan: 'bravo-gold' } },
    B,
  );
  keepSecret('bravo-gold');
});

afterAll(() => service[Symbol.asyncDispose]());

function call(request: Request) {
  senders += 1;
  return service.call({ remoteAddress: `10.3.${senders >> 8}.${senders & 255}`, ...request });
}

type Case =
  | { readonly names: 'key' | 'tenant'; readonly payload?: object }
  /** Names nobody: acts on the caller's own tenant or key. The reason why it cannot reach another's. */
  | { readonly names: 'nobody'; readonly payload?: object; readonly why: string }
  | { readonly names: 'nobody'; readonly isPublic: true };

/** Every route of the service. */
const CASES: Readonly<Record<string, Case>> = {
  'GET /': { names: 'nobody', isPublic: true },
  'GET /.well-known/jwks.json': { names: 'nobody', isPublic: true },
  'GET /.well-known/oauth-authorization-server': { names: 'nobody', isPublic: true },
  'GET /healthz': { names: 'nobody', isPublic: true },
  'GET /readyz': { names: 'nobody', isPublic: true },
  'POST /oauth2/token': { names: 'nobody', isPublic: true },
  'GET /v1/events': { names: 'nobody', why: 'filters and cursors are attacked below' },
  'GET /v1/keys': { names: 'nobody', why: 'filters and cursors are attacked below' },
  'POST /v1/keys': {
    names: 'nobody',
    payload: { userId: 'u', name: 'n' },
    why: 'a tenant in the body is refused, below',
  },
  'POST /v1/keys/verify': { names: 'nobody', payload: { key: 'x' }, why: 'keys of others are attacked below' },
  'GET /v1/keys/{id}': { names: 'key' },
  'PATCH /v1/keys/{id}': { names: 'key', payload: { name: 'taken over', permissions: ['*'] } },
  'POST /v1/keys/{id}/revoke': { names: 'key', payload: { reason: 'attack' } },
  'POST /v1/keys/{id}/suspend': { names: 'key', payload: {} },
  'POST /v1/keys/{id}/resume': { names: 'key', payload: {} },
  'POST /v1/keys/{id}/rotate': { names: 'key', payload: { overlap: 0 } },
  'GET /v1/keys/{id}/versions': { names: 'key' },
  'POST /v1/keys/{id}/versions/{version}/retire': { names: 'key', payload: {} },
  'GET /v1/keys/{id}/usage': { names: 'key' },
  'GET /v1/usage': { names: 'nobody', why: 'counts of the own tenant, below' },
  'GET /v1/self': { names: 'nobody', why: 'the key that calls' },
  'POST /v1/self/rotate': { names: 'nobody', payload: {}, why: 'the key that calls' },
  'POST /v1/self/revoke': { names: 'nobody', payload: {}, why: 'the key that calls' },
  'GET /v1/signing-keys': { names: 'nobody', why: 'for keys of the system tenant only' },
  'POST /v1/signing-keys': {
    names: 'nobody',
    payload: { algorithm: 'ES256' },
    why: 'for keys of the system tenant only',
  },
  'POST /v1/signing-keys/{kid}/retire': { names: 'nobody', payload: {}, why: 'for keys of the system tenant only' },
  'GET /v1/tenants': { names: 'nobody', why: 'for keys of the system tenant only' },
  'POST /v1/tenants': { names: 'nobody', payload: { id: 'mine' }, why: 'for keys of the system tenant only' },
  'GET /v1/self/next': { names: 'nobody', why: 'it is about the key that calls' },
  'POST /v1/keys/{id}/rollback': { names: 'key', payload: {} },
  'GET /v1/tenants/{id}': { names: 'tenant' },
  'PATCH /v1/tenants/{id}': { names: 'tenant', payload: { name: 'taken over' } },
  'DELETE /v1/tenants/{id}': { names: 'tenant' },
  'POST /v1/tenants/{id}/suspend': { names: 'tenant', payload: {} },
  'POST /v1/tenants/{id}/resume': { names: 'tenant', payload: {} },
};

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

async function documented(): Promise<
  readonly { readonly name: string; readonly method: Method; readonly path: string }[]
> {
  const document = await service.app.inject('/openapi.json');
  const { paths } = document.json<{ paths: Record<string, Record<string, unknown>> }>();
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((lower) => {
      const method = lower.toUpperCase() as Method;
      return { name: `${method} ${path}`, method, path };
    }),
  );
}

function urlOf(path: string, id: string): string {
  return path.replace('{id}', encodeURIComponent(id)).replace('{version}', '1');
}

/** All that is stored of a tenant. Two of them differ when anything of it was touched. */
function stored(tenantId: string): unknown {
  const db = new DatabaseSync(service.engine.databaseFile, { readOnly: true });
  try {
    const tables = [
      'tenants',
      'api_keys',
      'api_key_versions',
      'next_secrets',
      'token_revocations',
      'events',
      'event_details',
      'idempotency',
    ];
    return tables.map((table) => db.prepare(`select * from ${table} where tenant_id = ? order by 1, 3`).all(tenantId));
  } finally {
    db.close();
  }
}

test('every documented route has a case here, and every case has a route', async () => {
  expect((await documented()).map(({ name }) => name).sort()).toEqual(Object.keys(CASES).sort());
});

test('a resource of another tenant gets the answer of one that does not exist, on every route, and is not changed', async () => {
  const before = stored(B);
  let compared = 0;
  for (const { name, method, path } of await documented()) {
    const given = CASES[name];
    if (given === undefined || given.names === 'nobody') continue;
    const send = async (id: string) => {
      const payload = given.payload === undefined ? {} : { payload: given.payload };
      return call({ method, url: urlOf(path, id), by: adminA.key, ...payload });
    };
    const never = await send(given.names === 'key' ? NEVER_MADE : 'never-made');
    expect(never.json(), name).toMatchObject({ status: 404, code: 'not_found' });
    const foreign = given.names === 'key' ? [victim.apiKey.id, adminB.apiKey.id] : [B, 'system', 'default'];
    const strange = [
      "'",
      'x'.repeat(400),
      ' ',
      victim.apiKey.id.toLowerCase(),
      `${victim.apiKey.id} `,
      B.toUpperCase(),
    ];
    for (const id of [...foreign, ...strange]) {
      expect(tellable(await send(id)), `${name} ${id}`).toEqual(tellable(never));
      compared += 1;
    }
  }
  expect(compared).toBeGreaterThan(100);
  expect(stored(B)).toEqual(before);
  expect(await service.auth.verify({ key: victim.key, tenant: B })).toMatchObject({ valid: true });
});

test('naming another tenant in a header gets the answer of one that does not exist, on every route', async () => {
  const before = stored(B);
  for (const { name, method, path } of await documented()) {
    const given = CASES[name];
    if (given === undefined || 'isPublic' in given) continue;
    const payload = given.payload === undefined ? {} : { payload: given.payload };
    const send = (tenant: string) =>
      call({
        method,
        url: urlOf(path, victim.apiKey.id),
        by: adminA.key,
        headers: { 'pantheon-tenant': tenant },
        ...payload,
      });
    const never = tellable(await send('never-made'));
    for (const tenant of [B, 'system', 'default', A, '', '*', `${A}, ${B}`]) {
      expect(tellable(await send(tenant)), `${name} in ${tenant}`).toEqual(never);
    }
    expect(never).toMatchObject({ status: 404 });
  }
  expect(stored(B)).toEqual(before);
});

test('without a credential only the public routes answer, whatever tenant the body names', async () => {
  const claims = {
    userId: 'admin',
    tenantId: B,
    ownerId: 'admin',
    createdBy: adminB.apiKey.id,
    permissions: ['*'],
    name: 'n',
  };
  const headers = {
    'x-user': 'root',
    'x-actor': 'root',
    'x-tenant': B,
    'x-forwarded-user': 'root',
    'pantheon-tenant': B,
    'x-api-key-id': adminB.apiKey.id,
  };
  for (const { name, method, path } of await documented()) {
    const given = CASES[name];
    if (given === undefined || 'isPublic' in given) continue;
    for (const url of [urlOf(path, victim.apiKey.id), urlOf(path, NEVER_MADE)]) {
      const payload = method === 'GET' || method === 'DELETE' ? {} : { payload: { ...given.payload, ...claims } };
      const answer = await call({ method, url, headers, ...payload });
      expect(answer.json(), name).toMatchObject({ status: 401, code: 'missing_credential' });
      expect(answer.headers['www-authenticate'], name).toContain('Bearer');
    }
  }
});

test('before there is an administrator no credential is accepted', async () => {
  await using empty = await openService({ dataDir: `${service.engine.dataDir}-other` });
  for (const by of ['', 'admin', 'root', 'test', 'null', 'undefined', 'changeme', 'Bearer', service.root, adminA.key]) {
    for (const { name, method, path } of await documented()) {
      const given = CASES[name];
      if (given === undefined || 'isPublic' in given) continue;
      senders += 1;
      const remoteAddress = `10.4.${senders >> 8}.${senders & 255}`;
      expect((await empty.call({ method, url: urlOf(path, NEVER_MADE), by, remoteAddress })).status, name).toBe(401);
    }
  }
});

test('a key of another installation, or of another tenant, is refused as unknown', async () => {
  await using other = await openEngine();
  const { key } = await other.create({ permissions: ['*'] });
  const unknown = await service.auth.verify({ key });
  expect(unknown).toMatchObject({ valid: false, secretVerified: false });
  expect(await service.auth.verify({ key: victim.key })).toEqual(unknown);
  expect(await service.auth.verify({ key: victim.key, tenant: A })).toEqual(unknown);
  const ask = async (text: string) =>
    (await call({ method: 'POST', url: '/v1/keys/verify', by: adminA.key, payload: { key: text } })).text;
  expect(await ask(victim.key)).toBe(await ask(key));
  const exchange = await service.auth.tokens.exchange({ key: victim.key, tenant: B });
  if (!exchange.issued) throw new Error('not issued');
  keepSecret(exchange.token.token.slice(-43));
  expect(await service.auth.tokens.verify({ token: exchange.token.token, tenant: A })).toMatchObject({
    valid: false,
    secretVerified: false,
  });
});

test('lists, audit trails, counts and searches contain only the own tenant', async () => {
  await service.engine.create({ userId: 'bob' }, A);
  const text = async (url: string): Promise<string> => (await call({ method: 'GET', url, by: adminA.key })).text;
  const urls = [
    ...[
      '/v1/keys?limit=200',
      '/v1/keys?userId=bob',
      `/v1/keys?q=${victim.apiKey.id}`,
      `/v1/keys?q=${victim.apiKey.id.slice(0, 4)}`,
    ],
    ...[
      '/v1/keys?state=active',
      '/v1/events?limit=200',
      `/v1/events?subjectId=${victim.apiKey.id}`,
      `/v1/events?subjectId=${B}&subjectType=tenant`,
    ],
    ...['/v1/events?type=tenant.created', '/v1/events?subjectType=signing_key', '/v1/usage?granularity=minute'],
  ];
  for (const url of urls) {
    const found = await text(url);
    for (const theirs of [victim.apiKey.id, adminB.apiKey.id, `"${B}"`]) {
      expect(found.includes(theirs), `${url} ${theirs}`).toBe(false);
    }
  }
  // How busy the others are is their business too.
  expect(await text('/v1/events?limit=200')).not.toContain('"seq"');
});

test('a cursor is accepted only for its list and its tenant, and not with one character changed', async () => {
  for (let at = 0; at < 3; at += 1) {
    await service.engine.create({ name: `a${at}` }, A);
    await service.engine.create({ name: `b${at}` }, B);
  }
  // Its own key may be the one that is shown to the other tenant's administrator.
  const cursorOf = async (url: string, by: string, headers = {}): Promise<string> =>
    String((await call({ method: 'GET', url: `${url}?limit=1`, by, headers, secret: true })).json()['nextCursor']);
  const page = (url: string, cursor: string, by = adminA.key, headers = {}) =>
    call({ method: 'GET', url: `${url}?limit=1&cursor=${encodeURIComponent(cursor)}`, by, headers });

  for (const list of ['/v1/keys', '/v1/events']) {
    const own = await cursorOf(list, adminA.key);
    expect((await page(list, own)).status).toBe(200);
    const foreign = await cursorOf(list, adminB.key);
    const otherList = await cursorOf(list === '/v1/keys' ? '/v1/events' : '/v1/keys', adminA.key);
    const asRoot = await cursorOf(list, service.root, { 'pantheon-tenant': B });
    const tenants = await cursorOf('/v1/tenants', service.root);
    const made = [{ createdAt: 0, id: '' }, { seq: 1 }, 'x'].map((value) =>
      Buffer.from(JSON.stringify(value)).toString('base64url'),
    );
    const bad = [
      foreign,
      otherList,
      asRoot,
      tenants,
      ...made,
      'null',
      '0',
      `${own}=`,
      ` ${own}`,
      own.slice(1),
      own.slice(0, -1),
      own + own,
      'A'.repeat(600),
    ];
    for (let at = 0; at < own.length; at += 3)
      bad.push(own.slice(0, at) + (own[at] === 'A' ? 'B' : 'A') + own.slice(at + 1));
    for (const cursor of bad) {
      expect((await page(list, cursor)).json(), cursor.slice(0, 20)).toMatchObject({
        status: 400,
        code: 'invalid_cursor',
      });
    }
  }
});

test('a suspended tenant is refused at once, with its tokens, and a deleted one is unknown', async () => {
  const [id, by] = ['doomed', service.root];
  await service.auth.tenants.create({ id });
  const { key } = await service.engine.create({ permissions: ['pantheon:*'], grantable: ['*'] }, id);
  const exchange = await service.auth.tokens.exchange({ key, tenant: id, permissions: ['pantheon:keys:read'] });
  if (!exchange.issued) throw new Error('not issued');
  const { token } = exchange.token;
  keepSecret(token.slice(-43));
  const answers = async () =>
    Promise.all(
      [key, token].map(async (credential) => (await call({ method: 'GET', url: '/v1/keys', by: credential })).json()),
    );
  expect(await answers()).toMatchObject([{ items: expect.any(Array) }, { items: expect.any(Array) }]);

  await call({ method: 'POST', url: `/v1/tenants/${id}/suspend`, by, payload: {} });
  expect(await answers()).toMatchObject([{ code: 'suspended' }, { code: 'suspended' }]);
  const create = { method: 'POST', url: '/v1/keys', payload: { userId: 'u', name: 'n' } } as const;
  expect((await call({ ...create, by: key })).status).toBe(403);
  expect((await call({ ...create, by, headers: { 'pantheon-tenant': id } })).json()).toMatchObject({
    code: 'not_allowed',
  });
  await call({ method: 'POST', url: `/v1/tenants/${id}/resume`, by, payload: {} });
  expect(await answers()).toMatchObject([{ items: expect.any(Array) }, { items: expect.any(Array) }]);

  await call({ method: 'DELETE', url: `/v1/tenants/${id}`, by });
  expect(await answers()).toMatchObject([{ code: 'invalid_key' }, { code: 'invalid_key' }]);
  const afterwards = ['resume', 'suspend'].map((verb) =>
    call({ method: 'POST', url: `/v1/tenants/${id}/${verb}`, by, payload: {} }),
  );
  for (const answer of await Promise.all(afterwards)) expect(answer.status).toBe(404);
  expect((await call({ method: 'POST', url: '/v1/tenants', by, payload: { id } })).json()).toMatchObject({
    code: 'already_exists',
  });
  expect((await call({ ...create, by, headers: { 'pantheon-tenant': id } })).status).toBe(404);
});

const OPERATIONS = ['update', 'narrow', 'suspend', 'resume', 'rotate', 'retire', 'revokeTokens', 'revoke'] as const;

test('an operation on one key changes that key alone, for all operations in any order', async () => {
  const keys: APIKey[] = [];
  for (let at = 0; at < 6; at += 1) {
    const permissions = ['docs:read', 'docs:write', 'docs:delete'];
    keys.push((await service.engine.create({ permissions }, at % 2 === 0 ? A : B)).apiKey);
  }
  const operate = async (key: APIKey, operation: (typeof OPERATIONS)[number]): Promise<void> => {
    const { keys: manager, rotation } = service.auth.tenant(key.tenantId);
    const { id, tenantId } = key;
    if (operation === 'update') await manager.update(id, { name: `name ${service.engine.clock.now()}` });
    if (operation === 'narrow') await manager.update(id, { permissions: ['docs:read'] });
    if (operation === 'suspend') await manager.suspend(id);
    if (operation === 'resume') await manager.resume(id);
    if (operation === 'rotate')
      keepSecret((await rotation.rotate(id, { overlap: 60, expectedVersion: (await manager.get(id)).version })).key);
    if (operation === 'retire') await rotation.retire(id, Math.max(1, (await manager.get(id)).version - 1));
    if (operation === 'revokeTokens') await service.auth.tokens.revokeAllOf({ tenantId, keyId: id });
    if (operation === 'revoke') await manager.revoke(id);
  };
  await fc.assert(
    fc.asyncProperty(fc.nat(keys.length - 1), fc.constantFrom(...OPERATIONS), async (at, operation) => {
      const key = keys[at];
      if (key === undefined) return;
      service.engine.clock.advance(1_000);
      const before = rowsBesides(key.id);
      try {
        await operate(key, operation);
      } catch (error) {
        // A key that was revoked, or a version that is current: refused is fine.
        if (!(error instanceof PantheonError)) throw error;
      }
      expect(rowsBesides(key.id)).toEqual(before);
    }),
    { numRuns: 120 },
  );
});

function rowsBesides(id: string): unknown {
  const db = new DatabaseSync(service.engine.databaseFile, { readOnly: true });
  try {
    return [
      db.prepare('select * from api_keys where id <> ? order by id').all(id),
      db.prepare('select * from api_key_versions where key_id <> ? order by key_id, version').all(id),
      db.prepare('select * from tenants order by id').all(),
      db.prepare('select * from signing_keys order by kid').all(),
    ];
  } finally {
    db.close();
  }
}

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
