/** The routes, one after the other: the happy path of each, and what each refuses. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventPageSchema } from '../src/api/events/schemas.ts';
import {
  apiKeySchema,
  createdKeySchema,
  keyPageSchema,
  revokedKeySchema,
  rotationSchema,
  versionSchema,
  versionsSchema,
} from '../src/api/keys/schemas.ts';
import { verificationSchema } from '../src/api/keys/verification-schema.ts';
import { tenantPageSchema, tenantSchema } from '../src/api/tenants/schemas.ts';
import { usageSchema } from '../src/api/usage/schemas.ts';
import { problemSchema } from '../src/http/problem-schema.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

describe('keys', () => {
  test('a key is created, listed, read and changed, with answers as the OpenAPI file documents', async () => {
    await service.call('PATCH', '/v1/tenants/default', { body: { audiences: ['https://api.example'] } });
    const created = await service.call('POST', '/v1/keys', {
      body: {
        userId: 'u',
        name: 'deploy',
        description: 'd',
        permissions: ['deploy:run'],
        expiresIn: '90d',
        rateLimits: [{ name: 'burst', limit: 5, window: '1m' }],
        quota: { limit: 100, period: 'day' },
        ipAllowlist: ['203.0.113.0/24'],
        rotation: { every: '30d', overlap: '1h' },
        jwt: { algorithm: 'ES256', audience: ['https://api.example'], customClaims: { a: 1 }, ttl: '5m' },
        metadata: { team: 'a' },
      },
    });
    expect(created.status).toBe(201);
    const { key, apiKey } = createdKeySchema.parse(created.body);
    expect(key).toMatch(/^pan_live_/);
    expect(created.headers['location']).toBe(`/v1/keys/${apiKey.id}`);
    expect(created.headers['cache-control']).toBe('no-store');

    const got = await service.call('GET', `/v1/keys/${apiKey.id}`);
    expect(apiKeySchema.parse(got.body)).toEqual(apiKey);
    expect(got.text).not.toContain(key);

    const listed = await service.call('GET', '/v1/keys?userId=u&state=active&environment=live&q=dep&limit=1');
    expect(keyPageSchema.parse(listed.body).items).toMatchObject([{ id: apiKey.id }]);

    const changed = await service.call('PATCH', `/v1/keys/${apiKey.id}`, {
      body: { name: 'other', description: null },
    });
    expect(apiKeySchema.parse(changed.body)).toMatchObject({ name: 'other' });
    expect(changed.body).not.toHaveProperty('description');
  });

  test('a change is merged as RFC 7396 says, under either media type', async () => {
    const jwt = {
      algorithm: 'Ed25519',
      audience: ['https://api.example'],
      customClaims: { a: 1, b: { c: 2 } },
      ttl: '1m',
    };
    const { apiKey } = await service.create({
      permissions: ['a'],
      jwt: { ...jwt, algorithm: 'Ed25519' },
      metadata: { x: 1, y: 2 },
    });
    const patch = (body: unknown, type: string) =>
      service.call('PATCH', `/v1/keys/${apiKey.id}`, { body, headers: { 'content-type': type } });
    const plain = await patch({ jwt: { ttl: '5m' }, metadata: { x: null } }, 'application/json');
    expect(plain.body).toMatchObject({ jwt: { ...jwt, ttl: '5m' }, metadata: { y: 2 } });
    expect(plain.body['metadata']).toEqual({ y: 2 });
    const typed = await patch(
      { jwt: { customClaims: { b: null } }, permissions: null },
      'application/merge-patch+json',
    );
    expect(apiKeySchema.parse(typed.body)).toMatchObject({
      jwt: { ...jwt, ttl: '5m', customClaims: { a: 1 } },
      permissions: [],
    });
    for (const type of ['application/json-patch+json', 'application/merge-patch', 'application/merge-patch+jsonx'])
      expect(await patch({ name: 'x' }, type)).toMatchObject({ status: 415 });
    const posted = { body: { reason: 'x' }, headers: { 'content-type': 'application/merge-patch+json' } };
    expect(await service.call('POST', `/v1/keys/${apiKey.id}/suspend`, posted)).toMatchObject({ status: 415 });
  });

  test('pages are linked by cursor, and a changed cursor is refused', async () => {
    for (let made = 0; made < 3; made += 1) await service.create({ userId: 'paged' });
    const first = await service.call('GET', '/v1/keys?userId=paged&limit=2');
    const { items, nextCursor } = keyPageSchema.parse(first.body);
    const second = await service.call('GET', `/v1/keys?userId=paged&limit=2&cursor=${nextCursor}`);
    const rest = keyPageSchema.parse(second.body);
    expect(items.length + rest.items.length).toBe(3);
    expect(rest.nextCursor).toBeNull();
    const tampered = `${nextCursor?.slice(0, -2)}AA`;
    const refused = await service.call('GET', `/v1/keys?cursor=${tampered}`);
    expect(refused).toMatchObject({ status: 400, body: { code: 'invalid_cursor' } });
  });

  test('suspend, resume and revoke are idempotent, and revocation is final', async () => {
    const { key, apiKey } = await service.create();
    const at = (what: string, body?: unknown) => service.call('POST', `/v1/keys/${apiKey.id}/${what}`, { body });
    const code = async () => (await service.call('POST', '/v1/keys/verify', { body: { key } })).body['code'];
    for (let twice = 0; twice < 2; twice += 1)
      expect(await at('suspend', { reason: 'lost laptop' })).toMatchObject({
        status: 200,
        body: { state: 'suspended' },
      });
    expect(await code()).toBe('suspended');
    expect(await at('resume')).toMatchObject({ status: 200, body: { state: 'active' } });
    expect(await code()).toBeUndefined();
    for (let twice = 0; twice < 2; twice += 1)
      expect(await at('revoke', {})).toMatchObject({ status: 200, body: { state: 'revoked' } });
    expect(await code()).toBe('revoked');
    expect(await at('resume')).toMatchObject({ status: 409, body: { code: 'key_revoked' } });
  });

  test('revoking with cascade revokes the children', async () => {
    const parent = await service.create({ permissions: ['pantheon:keys:*'] });
    const child = await service.call('POST', '/v1/keys', {
      key: parent.key,
      body: { userId: 'user-1', name: 'child' },
    });
    expect(child.status).toBe(201);
    await service.call('POST', `/v1/keys/${parent.apiKey.id}/revoke?cascade=true`);
    const verified = await service.call('POST', '/v1/keys/verify', { body: { key: child.body['key'] } });
    expect(verified.body).toMatchObject({ valid: false, code: 'revoked' });
  });

  test('revoking with cascade lists what the key acted on, and with acted revokes that too', async () => {
    const headers = { 'pantheon-tenant': 'system' };
    const stolen = await service.create({ permissions: ['pantheon:*'], grantable: ['*'] }, 'system');
    const { apiKey } = await service.create();
    const rotated = await service.call('POST', `/v1/keys/${apiKey.id}/rotate`, { key: stolen.key });
    expect(rotated.status).toBe(201);
    const revoke = (cascade: string) =>
      service.call('POST', `/v1/keys/${stolen.apiKey.id}/revoke?cascade=${cascade}`, { headers });
    const named = revokedKeySchema.parse((await revoke('true')).body);
    const acted = { keyId: apiKey.id, tenantId: 'default', did: ['rotated'] };
    expect(named.actedOn).toEqual({ items: [{ ...acted, revoked: false, tokensRevoked: false }], complete: true });
    const taken = revokedKeySchema.parse((await revoke('acted')).body);
    expect(taken.actedOn).toEqual({ items: [{ ...acted, revoked: true, tokensRevoked: true }], complete: true });
    expect((await service.call('POST', '/v1/keys/verify', { body: { key: rotated.body['key'] } })).body).toMatchObject({
      code: 'revoked',
    });
    expect(revokedKeySchema.parse((await revoke('false')).body).actedOn).toBeUndefined();
    expect((await revoke('everything')).status).toBe(400);
  });

  test('rotation returns a new string and accepts the old one until it is retired', async () => {
    const { key, apiKey } = await service.create();
    const rotated = await service.call('POST', `/v1/keys/${apiKey.id}/rotate`, { body: { overlap: '1h' } });
    expect(rotated.status).toBe(201);
    const { key: next } = rotationSchema.parse(rotated.body);
    const versions = await service.call('GET', `/v1/keys/${apiKey.id}/versions`);
    expect(versionsSchema.parse(versions.body).items.map(({ state }) => state)).toEqual(['current', 'accepted']);
    const again = await service.call('POST', `/v1/keys/${apiKey.id}/rotate`);
    expect(again).toMatchObject({ status: 409, body: { code: 'rotation_in_progress' } });
    const retired = await service.call('POST', `/v1/keys/${apiKey.id}/versions/1/retire`);
    expect(versionSchema.parse(retired.body).state).toBe('retired');
    const verify = async (string: string) =>
      (await service.call('POST', '/v1/keys/verify', { body: { key: string } })).body;
    expect(await verify(key)).toMatchObject({ valid: false, code: 'version_retired' });
    expect(await verify(next)).toMatchObject({ valid: true, version: 2 });
    const current = await service.call('POST', `/v1/keys/${apiKey.id}/versions/2/retire`);
    expect(current).toMatchObject({ status: 409, body: { code: 'version_conflict' } });
    for (const version of ['3', '0', 'x', '1e1'])
      expect((await service.call('POST', `/v1/keys/${apiKey.id}/versions/${version}/retire`)).status).toBe(404);
  });

  test('a repeated request with one Idempotency-Key replaces the secret of one key', async () => {
    const request = { headers: { 'idempotency-key': 'abc' }, body: { userId: 'idem', name: 'once' } };
    const [one, two] = [
      await service.call('POST', '/v1/keys', request),
      await service.call('POST', '/v1/keys', request),
    ];
    expect(two.status).toBe(201);
    expect((two.body['apiKey'] as { id: string }).id).toBe((one.body['apiKey'] as { id: string }).id);
    expect(two.body['key']).not.toBe(one.body['key']);
    const other = await service.call('POST', '/v1/keys', { ...request, body: { userId: 'idem', name: 'twice' } });
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_mismatch' } });
  });

  test('an unknown key is a 404 on every route', async () => {
    const { apiKey } = await service.create({}, 'system');
    const bodyOf = async (id: string) => {
      const { status, body } = await service.call('GET', `/v1/keys/${id}`);
      return { status, ...body, instance: '' };
    };
    const unknown = await bodyOf('0000000000000000');
    expect(unknown).toMatchObject({ status: 404, code: 'not_found' });
    for (const id of [apiKey.id, '%27%20OR%201=1--', 'a'.repeat(400), 'a'.repeat(600), '%00', '..'])
      expect(await bodyOf(id), id).toEqual(unknown);
  });
});

describe('verification', () => {
  test('a verification is a 200, valid or not, with the limits of the key in the body', async () => {
    const { key, apiKey } = await service.create({
      permissions: ['docs:*'],
      rateLimits: [{ name: 'burst', limit: 2, window: '1h' }],
    });
    const ask = async (more: object = {}) => {
      const { status, body } = await service.call('POST', '/v1/keys/verify', { body: { key, ...more } });
      expect(status).toBe(200);
      return verificationSchema.parse(body);
    };
    expect(await ask({ permissions: ['docs:read'], cost: 0 })).toMatchObject({
      valid: true,
      keyId: apiKey.id,
      tenantId: 'default',
      limits: [{ name: 'burst', remaining: 2 }],
    });
    expect(await ask({ permissions: ['admin:all'] })).toMatchObject({ valid: false, missing: 'admin:all' });
    expect(await ask({ environment: 'test' })).toMatchObject({ valid: false, code: 'environment_mismatch' });
    await ask();
    await ask();
    expect(await ask()).toMatchObject({ valid: false, code: 'rate_limited', retryAfterSeconds: expect.any(Number) });
    expect(await ask({ key: 'nonsense' })).toEqual({ valid: false, code: 'malformed' });
    expect(await ask({ key: `${key.slice(0, -1)}0` })).toMatchObject({ valid: false });
  });

  test('a key of another tenant is unknown', async () => {
    const { key } = await service.create({}, 'system');
    const { body } = await service.call('POST', '/v1/keys/verify', { body: { key } });
    expect(body).toEqual({ valid: false, code: 'unknown' });
    const here = await service.call('POST', '/v1/keys/verify', {
      body: { key },
      headers: { 'pantheon-tenant': 'system' },
    });
    expect(here.body).toMatchObject({ valid: true });
  });

  test('the RateLimit headers are about the caller', async () => {
    const caller = await service.create({
      permissions: ['pantheon:keys:verify'],
      rateLimits: [{ name: 'calls', limit: 1, window: '1h' }],
    });
    const ask = () => service.call('POST', '/v1/keys/verify', { key: caller.key, body: { key: service.rootKey } });
    expect((await ask()).headers['ratelimit']).toMatch(/^"calls";r=0;t=\d+$/);
    const limited = await ask();
    expect(limited).toMatchObject({ status: 429, body: { code: 'rate_limited', 'violated-policies': ['calls'] } });
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0);
  });
});

describe('self', () => {
  test('a key reads itself, rotates itself and revokes itself, also in the test environment', async () => {
    const { key, apiKey } = await service.create({ environment: 'test', rotation: { overlap: '1h' } });
    const seen = await service.call('GET', '/v1/self', { key });
    expect(apiKeySchema.parse(seen.body).id).toBe(apiKey.id);
    const rotated = await service.call('POST', '/v1/self/rotate', { key });
    expect(rotated.status).toBe(201);
    const { key: next } = rotationSchema.parse(rotated.body);
    expect((await service.call('POST', '/v1/self/revoke', { key: next })).body).toMatchObject({ state: 'revoked' });
    expect(await service.call('GET', '/v1/self', { key: next })).toMatchObject({
      status: 401,
      body: { code: 'revoked' },
    });
  });

  test('a token reads its key, and neither rotates nor revokes it', async () => {
    const { key } = await service.create({ rotation: { overlap: '1h' } });
    const exchange = await service.auth.tokens.exchange({ key });
    const token = exchange.issued ? exchange.token.token : '';
    expect((await service.call('GET', '/v1/self', { key: token })).status).toBe(200);
    for (const what of ['rotate', 'revoke'])
      expect(await service.call('POST', `/v1/self/${what}`, { key: token })).toMatchObject({
        status: 401,
        body: { code: 'invalid_key' },
      });
  });

  test('a superseded version cannot revoke its key, and the error says what can', async () => {
    const { key } = await service.create({ rotation: { overlap: '1h' } });
    const { key: next } = rotationSchema.parse((await service.call('POST', '/v1/self/rotate', { key })).body);
    const refused = await service.call('POST', '/v1/self/revoke', { key });
    expect(refused).toMatchObject({ status: 409, body: { code: 'version_conflict' } });
    expect(refused.body['detail']).toContain('Call with the current version');
    expect((await service.call('GET', '/v1/self', { key: next })).status).toBe(200);
  });

  test('a holder that lost the answer repeats the request with the string it has', async () => {
    const { key } = await service.create({ rotation: { overlap: '1h' } });
    const rotate = (headers: Record<string, string>) => service.call('POST', '/v1/self/rotate', { key, headers });
    const lost = rotationSchema.parse((await rotate({ 'idempotency-key': 'once' })).body);
    const again = await rotate({ 'idempotency-key': 'once' });
    expect(again.status).toBe(201);
    const { key: next, apiKey } = rotationSchema.parse(again.body);
    expect(apiKey.version).toBe(2);
    expect((await service.call('GET', '/v1/self', { key: lost.key })).status).toBe(401);
    expect(await rotate({})).toMatchObject({ status: 409, body: { code: 'version_conflict' } });
    expect((await service.call('GET', '/v1/self', { key: next })).status).toBe(200);
    expect(await rotate({ 'idempotency-key': 'once' })).toMatchObject({
      status: 409,
      body: { code: 'already_claimed' },
    });
  });

  test('without a rotation policy a key cannot rotate itself', async () => {
    const { key } = await service.create();
    expect(await service.call('POST', '/v1/self/rotate', { key })).toMatchObject({ body: { code: 'not_allowed' } });
  });
});

describe('usage and events', () => {
  test('uses are counted by outcome', async () => {
    const { key, apiKey } = await service.create();
    await service.auth.verify({ key });
    const own = await service.call('GET', `/v1/keys/${apiKey.id}/usage?granularity=minute`);
    expect(own.status).toBe(200);
    usageSchema.parse(own.body);
    const all = await service.call(
      'GET',
      '/v1/usage?granularity=day&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z',
    );
    expect(usageSchema.parse(all.body)).toEqual({ items: [] });
    for (const query of ['from=yesterday', 'granularity=second', 'from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z'])
      expect((await service.call('GET', `/v1/usage?${query}`)).status, query).toBe(400);
  });

  test('a change is in the audit trail with its actor, address and reason', async () => {
    const { apiKey } = await service.create();
    await service.call('POST', `/v1/keys/${apiKey.id}/revoke`, {
      body: { reason: 'found in a log' },
      headers: { 'user-agent': `tool ${service.rootKey}` },
      address: '203.0.113.9',
    });
    const { body, text } = await service.call('GET', `/v1/events?type=key.revoked&subjectId=${apiKey.id}`);
    const [event] = eventPageSchema.parse(body).items;
    expect(event).toMatchObject({
      actor: { address: '203.0.113.9', userAgent: 'tool [credential]' },
      reason: 'found in a log',
      seq: expect.any(Number),
    });
    expect(text).not.toContain(service.rootKey);
    expect((await service.call('GET', '/v1/events?type=key.eaten')).status).toBe(400);
  });
});

describe('tenants', () => {
  test('a tenant is created, renamed, suspended, resumed and deleted by keys of the system tenant', async () => {
    const made = await service.call('POST', '/v1/tenants', { body: { id: 'acme', name: 'Acme' } });
    expect(made.status).toBe(201);
    expect(tenantSchema.parse(made.body)).toMatchObject({ id: 'acme', state: 'active' });
    expect((await service.call('POST', '/v1/tenants', { body: { id: 'acme' } })).body['code']).toBe('already_exists');
    const { key } = await service.create({}, 'acme');
    expect((await service.call('PATCH', '/v1/tenants/acme', { body: { name: 'Acme Corp' } })).body['name']).toBe(
      'Acme Corp',
    );
    expect((await service.call('GET', '/v1/tenants/acme')).body['name']).toBe('Acme Corp');
    tenantPageSchema.parse((await service.call('GET', '/v1/tenants')).body);
    expect((await service.call('POST', '/v1/tenants/acme/suspend', { body: { reason: 'unpaid' } })).status).toBe(200);
    expect((await service.call('GET', '/v1/self', { key })).body['code']).toBe('suspended');
    expect((await service.call('POST', '/v1/tenants/acme/resume')).status).toBe(200);
    expect((await service.call('GET', '/v1/self', { key })).status).toBe(200);
    expect((await service.call('DELETE', '/v1/tenants/acme')).body['state']).toBe('deleted');
    expect((await service.call('GET', '/v1/self', { key })).body['code']).toBe('invalid_key');
    expect((await service.call('GET', '/v1/keys', { headers: { 'pantheon-tenant': 'acme' } })).status).toBe(404);
    expect((await service.call('DELETE', '/v1/tenants/system')).body['code']).toBe('not_allowed');
  });

  test('for other keys tenants do not exist, and no header selects one', async () => {
    await service.call('POST', '/v1/tenants', { body: { id: 'b-corp' } });
    const admin = await service.create({ permissions: ['pantheon:*'] }, 'b-corp');
    const theirs = await service.create({}, 'b-corp');
    const ours = await service.create();
    expect((await service.call('GET', `/v1/keys/${theirs.apiKey.id}`, { key: admin.key })).status).toBe(200);
    const refused = [
      await service.call('GET', '/v1/tenants', { key: admin.key }),
      await service.call('GET', '/v1/tenants/b-corp', { key: admin.key }),
      await service.call('GET', `/v1/keys/${ours.apiKey.id}`, { key: admin.key }),
      await service.call('GET', '/v1/keys', { key: admin.key, headers: { 'pantheon-tenant': 'b-corp' } }),
      await service.call('GET', '/v1/keys', { key: admin.key, headers: { 'pantheon-tenant': 'default' } }),
    ];
    for (const { status, body } of refused)
      expect({ status, code: body['code'] }).toEqual({ status: 404, code: 'not_found' });
    const events = await service.call('GET', '/v1/events', { key: admin.key });
    expect(
      eventPageSchema.parse(events.body).items.every((event) => event.tenantId === 'b-corp' && event.seq === undefined),
    ).toBe(true);
  });

  test.each(['', 'nowhere', 'DEFAULT', 'a,b', '../x', 'a'.repeat(100)])(
    'the tenant %j does not exist',
    async (tenant) => {
      const { status } = await service.call('GET', '/v1/keys', { headers: { 'pantheon-tenant': tenant } });
      expect(status).toBe(404);
    },
  );
});

describe('who may call', () => {
  test('each route for keys refuses a key without its permission, and names the permission', async () => {
    const { key } = await service.create();
    const { status, headers, body } = await service.call('POST', '/v1/keys', { key, body: { userId: 'u', name: 'n' } });
    expect({ status, code: body['code'] }).toEqual({ status: 403, code: 'insufficient_permissions' });
    expect(headers['www-authenticate']).toContain('error="insufficient_scope", scope="pantheon:keys:create"');
  });

  test('no caller grants what it does not have', async () => {
    const { key } = await service.create({ permissions: ['pantheon:keys:*'] });
    for (const permissions of [['docs:read'], ['pantheon:*'], ['*']]) {
      const { status, body } = await service.call('POST', '/v1/keys', {
        key,
        body: { userId: 'u', name: 'n', permissions },
      });
      expect({ status, code: body['code'] }).toEqual({ status: 403, code: 'not_grantable' });
    }
  });

  test('the last administrator stays unless force is given', async () => {
    const root = (await service.call('GET', '/v1/self')).body['id'];
    const headers = { 'pantheon-tenant': 'system' };
    const refused = await service.call('POST', `/v1/keys/${root}/suspend`, { headers });
    expect(refused).toMatchObject({ status: 409, body: { code: 'last_administrator' } });
    problemSchema.parse(refused.body);
    // Whoever may suspend may not thereby force.
    const { key } = await service.create({ permissions: ['pantheon:keys:update'] }, 'system');
    const forced = await service.call('POST', `/v1/keys/${root}/suspend?force=true`, { headers, key });
    expect(forced).toMatchObject({ status: 403, body: { code: 'insufficient_permissions' } });
    expect(forced.body['detail']).toContain('pantheon:keys:force');
  });
});
