/** What a key hands out over HTTP: no more than it is itself. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tenantSchema } from '../src/api/tenants/schemas.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

const ORDERS = 'https://orders.example';

async function createdBy(key: string, body: Readonly<Record<string, unknown>>) {
  const child = { userId: 'user-1', name: 'child', permissions: ['docs:read'], ...body };
  const { status, body: answer } = await service.call('POST', '/v1/keys', { key, body: child });
  return { status, code: answer['code'], field: answer['field'], detail: answer['detail'] };
}

describe('a key with only pantheon:keys:create', () => {
  const RIGHTS = { permissions: ['pantheon:keys:create'], grantable: ['docs:*'] };

  test.each([
    ['userId', { userId: 'somebody-else' }],
    ['jwt.customClaims', { jwt: { customClaims: { role: 'admin' } } }],
    ['jwt.audience[0]', { jwt: { audience: ['https://billing.example'] } }],
  ])('creates no key for tokens with any sub, role or aud: %s', async (field, body) => {
    const { key } = await service.create(RIGHTS);
    const refused = await createdBy(key, body);
    expect(refused).toMatchObject({ status: 403, code: 'not_grantable', field });
    expect(refused.detail).toMatch(/pantheon:tokens:issue|PATCH \/v1\/tenants\/default/);
    expect(await createdBy(key, {})).toMatchObject({ status: 201 });
  });

  test.each([
    ['rateLimits', { rateLimits: [{ name: 'a', limit: 100, window: '1m' }] }],
    ['quota', { quota: { limit: 100, period: 'month' as const } }],
    ['expiresAt', { expiresIn: '1h' }],
  ])('and limits of its own creates no key without them: %s', async (field, bounds) => {
    const { key } = await service.create({ ...RIGHTS, ...bounds });
    expect(await createdBy(key, {})).toMatchObject({ status: 403, code: 'not_grantable', field });
    expect(await createdBy(key, { ...bounds, ...(field === 'expiresAt' && { expiresIn: '30m' }) })).toMatchObject({
      status: 201,
    });
  });
});

test('audiences are set per tenant by keys of the system tenant, and shown with it', async () => {
  const { key } = await service.create({ permissions: ['pantheon:*'], grantable: ['*'] });
  const forOrders = { jwt: { audience: [ORDERS] } };
  expect(await createdBy(key, forOrders)).toMatchObject({ status: 403, field: 'jwt.audience[0]' });
  const own = await service.call('PATCH', '/v1/tenants/default', { key, body: { audiences: [ORDERS] } });
  expect(own.status).toBe(404);

  const set = await service.call('PATCH', '/v1/tenants/default', { body: { audiences: [ORDERS] } });
  expect(tenantSchema.parse(set.body)).toMatchObject({ name: 'default', audiences: [ORDERS] });
  expect(await createdBy(key, forOrders)).toMatchObject({ status: 201 });

  const made = await service.call('POST', '/v1/tenants', { body: { id: 'orders', audiences: [ORDERS], name: null } });
  expect(tenantSchema.parse(made.body)).toMatchObject({ id: 'orders', name: 'orders', audiences: [ORDERS] });
  const taken = await service.call('PATCH', '/v1/tenants/orders', { body: { audiences: null } });
  expect(tenantSchema.parse(taken.body)).not.toHaveProperty('audiences');
  const wrong = await service.call('PATCH', '/v1/tenants/orders', { body: { audiences: ['a b'] } });
  expect(wrong).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'audiences[0]' } });
});
