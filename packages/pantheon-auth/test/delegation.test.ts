/** What a caller hands out lies within its own key, asked at every place where something is handed out. */
import { describe, expect, test } from 'vitest';
import type { CreateKeyInput } from '../src/api-keys/key-input.ts';
import type { Caller } from '../src/domain/key-policy.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { callerFor } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { ISSUER, openTestEngine } from './test-engine.ts';

const RIGHTS = { permissions: ['pantheon:keys:*'], grantable: ['docs:*'] };
const CHILD = { userId: 'u', name: 'child', permissions: ['docs:read'] };

/** A key of the tenant, calling. */
async function callerWithKey(
  auth: PantheonAuth,
  input: Partial<CreateKeyInput> = {},
  tenantId = 'default',
): Promise<Caller> {
  const { key } = await auth.tenant(tenantId).keys.create({ userId: 'u', name: 'caller', ...RIGHTS, ...input });
  return callerFor(auth, key);
}

const HANDED_OUT: readonly (readonly [string, string, Partial<CreateKeyInput>, Partial<CreateKeyInput>])[] = [
  ['rate limits', 'rateLimits', { rateLimits: [{ name: 'a', limit: 5, window: '1m' }] }, {}],
  ['a quota', 'quota', { quota: { limit: 5, period: 'day' } }, {}],
  ['a lifetime of tokens', 'jwt.ttl', { jwt: { ttl: '60s' } }, { jwt: { ttl: '61s' } }],
  ['a user', 'userId', {}, { userId: 'boss' }],
  ['claims', 'jwt.customClaims', {}, { jwt: { customClaims: { role: 'admin' } } }],
  ['a claim that holds back', 'jwt.customClaims', { jwt: { customClaims: { read_only: true } } }, { jwt: null }],
];

describe.each(HANDED_OUT)('%s of the caller also limit what it grants', (_what, field, own, beyond) => {
  const refused = { code: 'not_grantable', field };

  test('by creating, directly and with an Idempotency-Key', async () => {
    await using engine = await openTestEngine();
    const by = await callerWithKey(engine.auth, own);
    const child = { ...CHILD, ...beyond };
    expect(await refusalOf(engine.auth.keys.create(child, { by }))).toMatchObject(refused);
    expect(await refusalOf(engine.auth.keys.create(child, { by, idempotencyKey: 'once' }))).toMatchObject(refused);
    expect((await engine.auth.keys.create({ ...CHILD, ...own }, { by })).apiKey.createdBy).toBe(
      by.auditContext.actor.keyId,
    );
  });

  test('by repeating, rotating, resuming and issuing, for a key that others have created or extended', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const by = await callerWithKey(auth, own);
    const repeated = await auth.keys.create({ ...CHILD, ...own }, { by, idempotencyKey: 'once' });
    const wider = { rateLimits: null, quota: null, ...beyond };
    await auth.keys.update(repeated.apiKey.id, wider);
    const again = () => auth.keys.create({ ...CHILD, ...own }, { by, idempotencyKey: 'once' });
    expect(await refusalOf(again())).toMatchObject(refused);

    const { id } = (await auth.keys.create({ ...CHILD, ...beyond })).apiKey;
    expect(await refusalOf(auth.rotation.rotate(id, {}, { by }))).toMatchObject(refused);
    await auth.keys.suspend(id);
    expect(await refusalOf(auth.keys.resume(id, { by }))).toMatchObject(refused);
    await auth.keys.resume(id);
    expect((await auth.keys.suspend(id, { by })).state).toBe('suspended');
    expect((await auth.keys.revoke(id, { by })).state).toBe('revoked');
  });

  test('by an update that adds grants, but not by one that removes them', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const by = await callerWithKey(auth, own);
    const { id } = (await auth.keys.create({ ...CHILD, ...own })).apiKey;
    const wider = { rateLimits: null, quota: null, ...beyond };
    expect(await refusalOf(auth.keys.update(id, wider, { by }))).toMatchObject(refused);
    const free = (await auth.keys.create({ ...CHILD, ...beyond })).apiKey;
    expect((await auth.keys.update(free.id, { permissions: [] }, { by })).permissions).toEqual([]);
  });
});

test('a lifetime that bounds the tokens of the caller bounds those of a key without a policy, and no policy bounds none', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const brief = await callerWithKey(auth, { jwt: { ttl: '60s' } });
  expect(await refusalOf(auth.keys.create(CHILD, { by: brief }))).toMatchObject({ field: 'jwt.ttl' });
  const free = await callerWithKey(auth);
  expect((await auth.keys.create({ ...CHILD, jwt: { ttl: '1h' } }, { by: free })).apiKey.jwt?.ttl).toBe('1h');
});

test('a claim that restricts the caller is in every token that the caller can get', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const held = { jwt: { customClaims: { read_only: true } } };
  const { key: ownKey, apiKey: own } = await auth.keys.create({ userId: 'u', name: 'caller', ...RIGHTS, ...held });
  const by = await callerFor(auth, ownKey);
  const { key, apiKey } = await auth.keys.create({ ...CHILD, ...held }, { by });
  const refused = { code: 'not_grantable', field: 'jwt.customClaims' };
  for (const jwt of [null, { customClaims: null }, { customClaims: { read_only: null } }] as const)
    expect(await refusalOf(auth.keys.update(apiKey.id, { jwt }, { by }))).toMatchObject(refused);
  expect(await refusalOf(auth.keys.update(own.id, { jwt: null }, { by }))).toMatchObject({ code: 'not_allowed' });

  const next = (await auth.rotation.rotate(apiKey.id, { overlap: '1h' }, { by })).key;
  for (const each of [ownKey, key, next]) {
    const exchange = await auth.tokens.exchange({ key: each });
    if (!exchange.issued) throw new Error('No token was issued.');
    expect(await auth.tokens.verify({ token: exchange.token.token })).toMatchObject({
      valid: true,
      token: { customClaims: { read_only: true } },
    });
  }
});

test('a caller that may issue tokens for other keys may choose their subject; the limits stay', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const permissions = ['pantheon:keys:*', 'pantheon:tokens:issue'];
  const limits = { rateLimits: [{ name: 'a', limit: 5, window: '1m' }] };
  const by = await callerWithKey(auth, { permissions, ...limits });
  const named = { ...CHILD, userId: 'boss', jwt: { customClaims: { role: 'admin' } } };
  expect((await auth.keys.create({ ...named, ...limits }, { by })).apiKey.userId).toBe('boss');
  expect(await refusalOf(auth.keys.create(named, { by }))).toMatchObject({ field: 'rateLimits' });
  const free = (await auth.keys.create(CHILD)).apiKey;
  const issuing = auth.tokens.issue({ tenantId: 'default', keyId: free.id }, {}, { by });
  expect(await refusalOf(issuing)).toMatchObject({ code: 'not_grantable', field: 'rateLimits' });
});

test('a caller is limited by its key as it is now, not as it was when the request arrived', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const by = await callerWithKey(auth);
  expect((await auth.keys.create(CHILD, { by })).apiKey.rateLimits).toEqual([]);
  const ownId = by.auditContext.actor.keyId ?? '';
  await auth.keys.update(ownId, { rateLimits: [{ name: 'a', limit: 5, window: '1m' }] });
  expect(await refusalOf(auth.keys.create(CHILD, { by }))).toMatchObject({ field: 'rateLimits' });
});

describe('audiences are set per tenant', () => {
  const ORDERS = 'https://orders.example';
  const forOrders = { ...CHILD, jwt: { audience: [ORDERS] } };

  test('a key of a tenant gives its keys those of the service, and those that a key of the system has set', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const by = await callerWithKey(auth);
    const root = await callerWithKey(auth, { permissions: ['pantheon:*'], grantable: ['*'] }, 'system');
    const asOwner = { ...forOrders, userId: 'u' };
    for (const caller of [by, root])
      expect(await refusalOf(auth.keys.create(asOwner, { by: caller }))).toMatchObject({
        code: 'not_grantable',
        field: 'jwt.audience[0]',
        detail: expect.stringContaining('PATCH /v1/tenants/default'),
      });
    expect((await auth.keys.create({ ...CHILD, jwt: { audience: [ISSUER] } }, { by })).apiKey.jwt?.audience).toEqual([
      ISSUER,
    ]);

    expect(await auth.tenants.update('default', { audiences: [ORDERS] }, { by: root })).toMatchObject({
      audiences: [ORDERS],
    });
    const { key, apiKey } = await auth.keys.create(asOwner, { by });
    const exchange = await auth.tokens.exchange({ key, audience: [ORDERS] });
    expect(exchange).toMatchObject({ issued: true, token: { audience: [ORDERS] } });
    const elsewhere = auth.keys.update(apiKey.id, { jwt: { audience: [ORDERS, 'https://else.example'] } }, { by });
    expect(await refusalOf(elsewhere)).toMatchObject({ code: 'not_grantable', field: 'jwt.audience[1]' });
  });

  test('of one tenant mean nothing in another', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme', audiences: [ORDERS] });
    await auth.tenants.create({ id: 'globex' });
    const [acme, globex] = [await callerWithKey(auth, {}, 'acme'), await callerWithKey(auth, {}, 'globex')];
    expect((await auth.tenant('acme').keys.create(forOrders, { by: acme })).apiKey.tenantId).toBe('acme');
    const refused = auth.tenant('globex').keys.create(forOrders, { by: globex });
    expect(await refusalOf(refused)).toMatchObject({ code: 'not_grantable', field: 'jwt.audience[0]' });
  });

  test('that are removed from the tenant stay with the keys that have them', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.update('default', { audiences: [ORDERS] });
    const by = await callerWithKey(auth);
    const { key, apiKey } = await auth.keys.create(forOrders, { by });
    const emptied = await auth.tenants.update('default', { audiences: null });
    expect(emptied).not.toHaveProperty('audiences');
    expect(await auth.tokens.exchange({ key, audience: [ORDERS] })).toMatchObject({ issued: true });
    expect((await auth.keys.update(apiKey.id, { jwt: { ttl: '1m' } }, { by })).jwt).toMatchObject({
      audience: [ORDERS],
    });
    expect((await auth.rotation.rotate(apiKey.id, {}, { by })).apiKey.version).toBe(2);
    expect(await refusalOf(auth.keys.create(forOrders, { by }))).toMatchObject({ field: 'jwt.audience[0]' });
  });

  test('are in the log, and a value that is not a list of names is refused with its field', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme', audiences: [ORDERS] });
    await auth.tenants.update('acme', { name: 'Acme' });
    await auth.tenants.update('acme', { audiences: [] });
    const { items } = await auth.events.list('acme', {});
    expect(items.map(({ type, before, after }) => ({ type, before, after }))).toMatchObject([
      { type: 'tenant.updated', before: { audiences: [ORDERS] }, after: { audiences: [] } },
      { type: 'tenant.updated', before: { name: 'acme' }, after: { name: 'Acme' } },
      { type: 'tenant.created', after: { audiences: [ORDERS] } },
    ]);
    for (const [field, audiences] of [
      ['audiences', ORDERS],
      ['audiences[0]', ['a b']],
      ['audiences[0]', ['']],
      ['audiences', [ORDERS, ORDERS]],
      ['audiences', Array.from({ length: 65 }, (_, at) => `a${at}`)],
    ] as const)
      expect(await refusalOf(auth.tenants.update('acme', { audiences: audiences as string[] }))).toMatchObject({
        code: 'invalid_request',
        field,
      });
  });

  test('a tenant whose audiences cannot be read is quarantined', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    for (const audiences of ['', 'null', '{}', '["a",1]', '"https://orders.example"', '[']) {
      await engine.sql('update tenants set audiences = ? where id = ?', audiences, 'default');
      expect(await refusalOf(auth.tenants.get('default')), audiences).toMatchObject({ code: 'tenant_quarantined' });
    }
  });
});
