/**
 * Attacks within a tenant: fields that only the server sets, permissions that nobody granted, and chains of allowed
 * steps that end where no single step was allowed to go. What is not attacked here, and why, is in the table of
 * `c-tenancy.test.ts`.
 */
import { ACTIONS, type CreatedKey, type CreateKeyInput, isPermission, isPermissionPattern } from 'pantheon-auth';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  ANSWER_MAX_MS,
  type Answer,
  expectNoSecretWritten,
  keepSecret,
  openService,
  type Request,
  type Service,
} from './harness.ts';

let service: Service;
let admin: CreatedKey;
let target: CreatedKey;
let senders = 0;

beforeAll(async () => {
  service = await openService();
  admin = await service.engine.create({ permissions: ['pantheon:*'], grantable: ['*'] });
  target = await service.engine.create({ permissions: ['docs:read'], rotation: { overlap: '1h' } });
});

afterAll(() => service[Symbol.asyncDispose]());

function call(request: Request): Promise<Answer> {
  senders += 1;
  return service.call({ remoteAddress: `10.5.${senders >> 8}.${senders & 255}`, ...request });
}

function post(url: string, by: string, payload: object = {}): Promise<Answer> {
  return call({ method: 'POST', url, by, payload, secret: true });
}

/** Asks for a key over HTTP. What it says is a secret if it is one. */
async function createBy(by: string, input: Partial<CreateKeyInput>): Promise<Answer> {
  const answer = await post('/v1/keys', by, { userId: 'user-1', name: 'child', ...input });
  const { key } = answer.json();
  if (typeof key === 'string') keepSecret(key);
  return answer;
}

const SERVER_FIELDS: Readonly<Record<string, unknown>> = {
  ...{
    id: 'AAAAAAAAAAAAAAAA',
    tenantId: 'system',
    tenant: 'system',
    ownerId: 'root',
    createdBy: 'root',
    createdAt: '2020-01-01T00:00:00Z',
  },
  ...{
    hash: 'x',
    keyHash: 'x',
    key: 'pan_live_x',
    secret: 'x',
    sealed: 'x',
    hint: 'x',
    signing: {},
    version: 9,
    versions: [],
    revision: 9,
  },
  ...{
    isActive: true,
    state: 'active',
    stateReason: 'x',
    stateChangedAt: null,
    tokensNotBefore: null,
    revoked: false,
    enabled: true,
  },
  ...{
    usageCount: 0,
    lastUsedAt: null,
    remaining: 1e9,
    rateLimit: 1e9,
    refillAmount: 1,
    scopes: ['*'],
    role: 'admin',
    isAdmin: true,
  },
};

test('fields that only the server sets are refused in every body, and change nothing', async () => {
  const { id } = target.apiKey;
  const shown = async () => {
    // Being tried is counted, like every use.
    const {
      usageCount: _count,
      lastUsedAt: _at,
      ...rest
    } = (await call({ method: 'GET', url: `/v1/keys/${id}`, by: admin.key })).json();
    return rest;
  };
  const before = await shown();
  const routes: readonly (readonly ['POST' | 'PATCH', string, object, string])[] = [
    ['POST', '/v1/keys', { userId: 'u', name: 'n' }, admin.key],
    ['PATCH', `/v1/keys/${id}`, { name: 'renamed' }, admin.key],
    ['POST', `/v1/keys/${id}/rotate`, {}, admin.key],
    ['POST', '/v1/self/rotate', {}, target.key],
    ['POST', '/v1/self/revoke', {}, target.key],
    ...['revoke', 'suspend', 'resume', 'versions/1/retire'].map(
      (verb) => ['POST', `/v1/keys/${id}/${verb}`, {}, admin.key] as const,
    ),
    ['POST', '/v1/keys/verify', { key: target.key }, admin.key],
    ['POST', '/v1/tenants', { id: 'made' }, service.root],
    ['PATCH', '/v1/tenants/default', { name: 'n' }, service.root],
  ];
  for (const [method, url, good, by] of routes) {
    for (const [field, value] of Object.entries(SERVER_FIELDS)) {
      // Some are asked for there.
      if ((url.endsWith('/verify') && field === 'key') || (url === '/v1/tenants' && field === 'id')) continue;
      const answer = await call({ method, url, by, payload: { ...good, [field]: value } });
      expect(answer.json(), `${method} ${url} ${field}`).toMatchObject({ status: 400, code: 'invalid_request', field });
    }
    for (const member of [
      '"__proto__":{"permissions":["*"]}',
      '"constructor":{"prototype":{}}',
      '"name":"a","name":"b"',
    ]) {
      const payload = `{${member},${JSON.stringify(good).slice(1)}`.replace(',}', '}');
      const answer = await call({ method, url, by, payload, headers: { 'content-type': 'application/json' } });
      expect(answer.json(), `${method} ${url} ${member}`).toMatchObject({ status: 400, code: 'invalid_json' });
    }
    for (const payload of ['[]', '"text"', '1', 'true', '[{}]']) {
      const answer = await call({ method, url, by, payload, headers: { 'content-type': 'application/json' } });
      expect(answer.status, `${method} ${url} ${payload}`).toBe(400);
    }
  }
  expect(await shown()).toEqual(before);
  expect(({} as Record<string, unknown>)['permissions']).toBeUndefined();
});

interface Guarded {
  readonly name: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly permission: string;
}

/** Routes that need a permission, as their own document says. */
async function guarded(): Promise<readonly Guarded[]> {
  const document = await service.app.inject('/openapi.json');
  const { paths } = document.json<{ paths: Record<string, Record<string, { description?: string }>> }>();
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([lower, { description = '' }]) => {
      const permission = /Needs the permission `([^`]+)`/.exec(description)?.[1];
      const method = lower.toUpperCase() as Guarded['method'];
      return permission === undefined ? [] : [{ name: `${method} ${path}`, method, path, permission }];
    }),
  );
}

test('each route refuses a key that has every permission but the required one', async () => {
  const routes = await guarded();
  expect(routes.length).toBeGreaterThan(15);
  const all: readonly string[] = Object.values(ACTIONS);
  for (const permission of new Set(routes.map((route) => route.permission))) {
    expect(all).toContain(permission);
    const others = [...all.filter((one) => one !== permission), '*', 'docs:*'];
    const [without, system] = [
      await service.engine.create({ permissions: others }),
      await service.engine.create({ permissions: others }, 'system'),
    ];
    for (const { name, method, path } of routes.filter((route) => route.permission === permission)) {
      const url = path.replace('{id}', target.apiKey.id).replace('{version}', '1');
      const payload = method === 'GET' || method === 'DELETE' ? {} : { payload: {} };
      for (const { key } of [without, system]) {
        const answer = await call({ method, url, by: key, ...payload });
        expect(answer.json(), name).toMatchObject({ status: 403, code: 'insufficient_permissions' });
        expect(answer.headers['www-authenticate'], name).toContain(`scope="${permission}"`);
      }
    }
  }
});

const COVERED: readonly (readonly [string, string, boolean])[] = [
  ...([
    ['docs:*', 'docs:read', true],
    ['docs:*', 'docs:a:b:c', true],
    ['docs:*', 'docs', false],
    ['docs:*', 'docsx:read', false],
  ] as const),
  ...([
    ['docs:*', 'do', false],
    ['docs:*', 'docs.admin', false],
    ['docs:*', 'doc:read', false],
    ['docs:read', 'docs:read:all', false],
  ] as const),
  ...([
    ['docs:read', 'docs:rea', false],
    ['docs:read', 'docs:reads', false],
    ['docs:read', 'docs', false],
    ['docs', 'docs:read', false],
  ] as const),
  ...([
    ['*', 'docs:read', true],
    ['*', 'x', true],
    ['*', 'pantheon:keys:read', false],
    ['*', 'pantheon', false],
  ] as const),
  ...([
    ['*', 'pantheonx:keys', true],
    ['pantheon:*', 'pantheon:keys:read', true],
    ['pantheon:*', 'pantheon', false],
  ] as const),
  ...([
    ['pantheon:keys:*', 'pantheon:tenants:read', false],
    ['a:b:*', 'a:b', false],
    ['a:b:*', 'a:bc:d', false],
    ['.', 'x', false],
  ] as const),
];

test('a wildcard covers its pattern and nothing beside it', async () => {
  for (const [held, wanted, isCovered] of COVERED) {
    const { key } = await service.engine.create({ permissions: [held] });
    const { valid } = await service.auth.verify({ key, permissions: [wanted] });
    expect(valid, `${held} ${wanted}`).toBe(isCovered);
  }
});

const NOT_PERMISSIONS = [
  ...[
    '',
    ' ',
    ':',
    '::',
    'docs:',
    ':docs',
    'docs::read',
    '**',
    'docs*',
    'docs:**',
    '*:read',
    'docs:*:read',
    'docs:re*',
    '*:*',
    'Docs:Read',
    'DOCS',
  ],
  ...[
    'docs:%2A',
    'docs.%2A',
    'docs：read',
    'dоcs:read',
    'docs:read ',
    ' docs:read',
    'docs read',
    'docs,read',
    'docs/read',
    '(a+)+$',
    '[a-z]',
    'docs:\n',
  ],
  ...[
    `${'a:'.repeat(8)}a`,
    'a'.repeat(129),
    'a:'.repeat(10_000),
    "docs:'--",
    'docs:\0',
    'docs:\u202e',
    '$',
    '^',
    '\\',
    '{}',
  ],
] as const;

test('an invalid permission can neither be granted nor requested', async () => {
  for (const text of NOT_PERMISSIONS) {
    for (const field of ['permissions', 'grantable'] as const) {
      const answer = await createBy(admin.key, { [field]: [text] });
      expect(answer.json(), JSON.stringify(text).slice(0, 40)).toMatchObject({
        status: 400,
        code: 'invalid_request',
        field: `${field}[0]`,
      });
    }
    await expect(service.auth.verify({ key: target.key, permissions: [text] })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    const asked = await post('/v1/keys/verify', admin.key, { key: target.key, permissions: [text] });
    expect(asked.status).toBe(400);
  }
  // A wildcard is held, never asked for: asking for everything is not a question about one thing.
  for (const text of ['*', 'docs:*']) {
    await expect(service.auth.verify({ key: admin.key, permissions: [text] })).rejects.toMatchObject({
      code: 'invalid_request',
    });
  }
});

test('matching takes time in proportion to its input', () => {
  const started = performance.now();
  for (const text of [
    'a:'.repeat(500_000),
    'a'.repeat(1_000_000),
    `${'a'.repeat(500_000)}!`,
    ':'.repeat(1_000_000),
    `${'a.'.repeat(500_000)}*`,
  ]) {
    expect([isPermission(text), isPermissionPattern(text)]).toEqual([false, false]);
  }
  expect(performance.now() - started).toBeLessThan(ANSWER_MAX_MS);
});

test('a token for all permissions is not issued to a key without them', async () => {
  for (const scope of [
    '*',
    'docs:*',
    'docs:read *',
    'pantheon:*',
    'docs:write',
    'docs:read  docs:read',
    'DOCS:READ',
    '',
  ]) {
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: target.apiKey.id,
      client_secret: target.key,
      scope: scope === '' ? 'docs:read ' : scope,
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const answer = await call({ method: 'POST', url: '/oauth2/token', headers, payload: form.toString() });
    expect(answer.json(), scope).toMatchObject({ error: 'invalid_scope' });
  }
});

test('no caller grants more than it may', async () => {
  const limited = await service.engine.create({ permissions: ['pantheon:keys:*'], grantable: ['docs:*'] });
  const more: readonly Partial<CreateKeyInput>[] = [
    ...[
      ['admin:x'],
      ['*'],
      ['docs'],
      ['pantheon:*'],
      ['pantheon:tenants:read'],
      ['pantheon:events:read'],
      ['docs:read', 'x'],
    ].map((permissions) => ({ permissions })),
    ...[['*'], ['admin:*'], ['docs'], ['docs:*', 'x']].map((grantable) => ({ grantable })),
  ];
  for (const input of more) {
    expect((await createBy(limited.key, input)).json(), JSON.stringify(input)).toMatchObject({
      status: 403,
      code: 'not_grantable',
    });
    const update = await call({
      method: 'PATCH',
      url: `/v1/keys/${target.apiKey.id}`,
      by: limited.key,
      payload: input,
    });
    expect(update.json(), JSON.stringify(input)).toMatchObject({ status: 403, code: 'not_grantable' });
  }
  for (const pattern of ['pantheon:*', 'pantheon', 'pantheon:keys:read']) {
    expect((await createBy(admin.key, { grantable: [pattern] })).json()).toMatchObject({
      status: 400,
      field: 'grantable',
    });
  }
  // A child of a child, in as many steps as one likes.
  const child = (
    await createBy(limited.key, {
      permissions: ['pantheon:keys:create', 'pantheon:keys:update'],
      grantable: ['docs:a:*'],
    })
  ).json() as unknown as CreatedKey;
  for (const input of [
    { permissions: ['docs:b'] },
    { permissions: ['pantheon:keys:read'] },
    { grantable: ['docs:*'] },
  ]) {
    expect((await createBy(child.key, input)).json(), JSON.stringify(input)).toMatchObject({ code: 'not_grantable' });
  }
  expect((await createBy(child.key, { permissions: ['docs:a:b', 'pantheon:keys:create'] })).status).toBe(201);
});

test('no caller changes a key with more permissions than it could grant', async () => {
  const limited = await service.engine.create({ permissions: ['pantheon:keys:*'], grantable: ['docs:*'] });
  const above = await service.engine.create({ permissions: ['pantheon:*'], grantable: ['*'] });
  await service.auth.keys.suspend(above.apiKey.id);
  const { id } = above.apiKey;
  for (const [url, payload] of [
    [`/v1/keys/${id}/rotate`, { overlap: 0 }],
    [`/v1/keys/${id}/resume`, {}],
  ] as const) {
    expect((await post(url, limited.key, payload)).json(), url).toMatchObject({ status: 403, code: 'not_grantable' });
  }
  const narrow = { permissions: [], grantable: [] };
  const update = await call({ method: 'PATCH', url: `/v1/keys/${id}`, by: limited.key, payload: narrow });
  expect(update.json()).toMatchObject({ status: 403, code: 'not_grantable' });
  // In the system tenant there is nothing to name at all.
  const { items } = await service.auth.tenant('system').keys.list();
  const root = String(items[0]?.id);
  for (const headers of [{}, { 'pantheon-tenant': 'system' }]) {
    expect(
      (await call({ method: 'POST', url: `/v1/keys/${root}/rotate`, by: limited.key, headers, payload: {} })).status,
    ).toBe(404);
  }
  const narrowSystem = await service.engine.create({ permissions: ['pantheon:keys:*'] }, 'system');
  const rotate = { method: 'POST', url: `/v1/keys/${root}/rotate`, by: narrowSystem.key, payload: {} } as const;
  expect((await call({ ...rotate, headers: { 'pantheon-tenant': 'system' } })).json()).toMatchObject({
    code: 'not_grantable',
  });
});

test('no key changes its own policy', async () => {
  const self = await service.engine.create({
    permissions: ['pantheon:keys:*'],
    grantable: ['docs:*'],
    rateLimits: [{ name: 'b', limit: 1_000, window: 60 }],
    expiresIn: '30d',
  });
  const url = `/v1/keys/${self.apiKey.id}`;
  const changes: readonly object[] = [
    ...[
      { permissions: ['pantheon:keys:*', 'docs:x'] },
      { permissions: [] },
      { grantable: [] },
      { expiresAt: null },
      { expiresIn: '29d' },
    ],
    ...[
      { rateLimits: [] },
      { quota: { limit: 1, period: 'day' } },
      { ipAllowlist: ['10.0.0.0/8'] },
      { rotation: { overlap: '1h' } },
    ],
    ...[{ jwt: { algorithm: 'HS256' } }, { userId: 'root' }, { notBefore: '2029-01-01T00:00:00Z' }],
  ];
  for (const payload of changes) {
    const answer = await call({ method: 'PATCH', url, by: self.key, payload });
    expect(answer.json(), JSON.stringify(payload)).toMatchObject({ status: 403 });
  }
  expect((await call({ method: 'PATCH', url, by: self.key, payload: { name: 'renamed' } })).status).toBe(200);
  for (const verb of ['rotate', 'revoke']) {
    const exchange = await service.auth.tokens.exchange({ key: self.key });
    if (!exchange.issued) throw new Error('not issued');
    keepSecret(exchange.token.token.slice(-43));
    expect((await post(`/v1/self/${verb}`, exchange.token.token)).json()).toMatchObject({
      status: 401,
      code: 'invalid_key',
    });
  }
  expect((await post('/v1/self/rotate', self.key)).json()).toMatchObject({ code: 'not_allowed' });
});

test('the expiry and the addresses of a key also limit the keys it creates', async () => {
  const ends = await service.engine.create({
    permissions: ['pantheon:keys:*'],
    grantable: ['docs:*'],
    expiresIn: '1h',
  });
  for (const input of [{}, { expiresIn: '61m' }, { expiresIn: '3601s' }, { expiresAt: null }]) {
    expect((await createBy(ends.key, input)).json(), JSON.stringify(input)).toMatchObject({
      code: 'not_grantable',
      field: 'expiresAt',
    });
  }
  const child = (await createBy(ends.key, { expiresIn: '59m' })).json() as unknown as CreatedKey;
  const later = await call({
    method: 'PATCH',
    url: `/v1/keys/${child.apiKey.id}`,
    by: ends.key,
    payload: { expiresAt: null },
  });
  expect(later.json()).toMatchObject({ code: 'not_grantable' });
  // A key that was made by somebody else, without an end: a new secret of it would be one without an end.
  const rotated = await post(`/v1/keys/${target.apiKey.id}/rotate`, ends.key, { overlap: '1h' });
  expect(rotated.json()).toMatchObject({ status: 403, code: 'not_grantable', field: 'expiresAt' });

  const bound = await service.engine.create({
    permissions: ['pantheon:keys:*'],
    grantable: ['docs:*'],
    ipAllowlist: ['10.9.0.0/16'],
  });
  const from = (payload: object, url = '/v1/keys') =>
    call({ method: 'POST', url, by: bound.key, payload, remoteAddress: '10.9.1.1', secret: true });
  const wish = { userId: 'user-1', name: 'n' };
  for (const ipAllowlist of [
    [],
    ['10.0.0.0/8'],
    ['10.9.0.0/15'],
    ['10.9.1.0/24', '10.8.0.1'],
    ['::/0'],
    ['::ffff:10.0.0.0/104'],
  ]) {
    expect((await from({ ...wish, ipAllowlist })).json(), ipAllowlist.join()).toMatchObject({
      code: 'not_grantable',
      field: 'ipAllowlist',
    });
  }
  const bounded = await from({ ...wish, ipAllowlist: ['10.9.1.0/24'] });
  keepSecret(String(bounded.json()['key']));
  expect(bounded.status).toBe(201);
  expect((await from({ overlap: '1h' }, `/v1/keys/${target.apiKey.id}/rotate`)).json()).toMatchObject({
    code: 'not_grantable',
    field: 'ipAllowlist',
  });
  expect(
    (await call({ method: 'GET', url: '/v1/keys', by: bound.key, remoteAddress: '10.8.0.1' })).json(),
  ).toMatchObject({ code: 'ip_not_allowed' });
  for (const header of [
    'x-forwarded-for',
    'x-real-ip',
    'forwarded',
    'cf-connecting-ip',
    'true-client-ip',
    'x-client-ip',
  ]) {
    const headers = { [header]: header === 'forwarded' ? 'for=10.9.1.1' : '10.9.1.1' };
    const answer = await call({ method: 'GET', url: '/v1/keys', by: bound.key, headers, remoteAddress: '10.8.0.1' });
    expect(answer.json(), header).toMatchObject({ status: 403, code: 'ip_not_allowed' });
  }
});

test('a stolen token creates nothing that outlives it', async () => {
  const exchange = await service.auth.tokens.exchange({ key: admin.key, permissions: ['pantheon:*'] });
  if (!exchange.issued) throw new Error('not issued');
  const { token } = exchange.token;
  keepSecret(token.slice(-43));
  for (const input of [
    {},
    { permissions: ['pantheon:*'] },
    { permissions: ['pantheon:keys:create'] },
    { expiresIn: '6m' },
  ]) {
    expect((await createBy(token, input)).json(), JSON.stringify(input)).toMatchObject({
      status: 403,
      code: 'not_grantable',
    });
  }
  expect((await createBy(token, { permissions: ['docs:read'], expiresIn: '1m' })).json()).toMatchObject({
    code: 'not_grantable',
  });
  const bare = await service.engine.create({ permissions: ['pantheon:keys:read'] });
  expect((await post(`/v1/keys/${bare.apiKey.id}/rotate`, token)).json()).toMatchObject({
    status: 403,
    code: 'not_grantable',
  });
  // Nor of itself: a token is no proof of the key that it was made from.
  expect((await post(`/v1/keys/${admin.apiKey.id}/rotate`, token)).status).toBe(403);
});

test('no call can end the last administrator', async () => {
  const by = service.root;
  const headers = { 'pantheon-tenant': 'system' };
  const { items } = await service.auth.tenant('system').keys.list({ q: 'root' });
  const id = String(items[0]?.id);
  const roads: readonly (readonly ['POST' | 'PATCH', string, object])[] = [
    ['POST', `/v1/keys/${id}/revoke`, {}],
    ['POST', `/v1/keys/${id}/revoke?cascade=true`, {}],
    ['POST', `/v1/keys/${id}/suspend`, {}],
    ['POST', '/v1/self/revoke', {}],
  ];
  for (const [method, url, payload] of roads) {
    expect((await call({ method, url, by, headers, payload })).json(), url).toMatchObject({
      status: 409,
      code: 'last_administrator',
    });
  }
  for (const change of [{ permissions: [] }, { expiresIn: '1s' }, { notBefore: '2099-01-01T00:00:00Z' }]) {
    const own = await call({ method: 'PATCH', url: `/v1/keys/${id}`, by, headers, payload: change });
    expect([403, 409]).toContain(own.status);
    await expect(service.auth.tenant('system').keys.update(id, change)).rejects.toMatchObject({
      code: 'last_administrator',
    });
  }
  for (const url of ['/v1/tenants/system/suspend', '/v1/tenants/system/resume']) {
    expect((await call({ method: 'POST', url, by, payload: {} })).status).not.toBe(500);
  }
  expect((await call({ method: 'DELETE', url: '/v1/tenants/system', by })).json()).toMatchObject({
    code: 'not_allowed',
  });

  // A second one, made by the first, ends the first with all that it made: itself.
  const made = await call({
    method: 'POST',
    url: '/v1/keys',
    by,
    headers,
    secret: true,
    payload: { userId: 'u', name: 'second', permissions: ['pantheon:*'], grantable: ['*'] },
  });
  const second = made.json() as unknown as CreatedKey;
  keepSecret(second.key);
  await call({ method: 'POST', url: `/v1/keys/${id}/revoke?cascade=true`, by: second.key, headers, payload: {} });
  const alive = await Promise.all([by, second.key].map((key) => call({ method: 'GET', url: '/v1/tenants', by: key })));
  expect(alive.map(({ status }) => status)).toContain(200);
});

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
