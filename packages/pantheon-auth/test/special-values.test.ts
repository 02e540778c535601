/** A name that looks like a wildcard is a name; a value that is not known, wherever it comes from, is never a yes. */
import { describe, expect, test } from 'vitest';
import { ANY_ENVIRONMENT } from '../src/domain/key.ts';
import { ANY_TENANT } from '../src/domain/tenant.ts';
import { acceptClock } from '../src/engine/accept-clock.ts';
import { requirePermission as forExpress, pantheonAuth } from '../src/middleware/express.ts';
import { requirePermission as forFastify } from '../src/middleware/fastify.ts';
import { requirePermission as forFetch } from '../src/middleware/fetch.ts';
import { requirePermission as forHono } from '../src/middleware/hono.ts';
import { callerFor, callerWith } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { STORE } from './store.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** As plain JavaScript would pass it. */
const untyped = (value: unknown): never => value as never;

describe('a tenant whose id looks like a wildcard', () => {
  test.each(['any', 'all', 'default-any', 'undefined', 'null'])('%s: is an ordinary tenant', async (id) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id });
    const own = await auth.tenant(id).keys.create(INPUT);
    const others = await auth.keys.create({ ...INPUT, quota: { limit: 1, period: 'day' } });
    expect(await auth.verify({ key: others.key, tenant: id })).toMatchObject({ valid: false });
    expect(await auth.verify({ key: own.key, tenant: id })).toMatchObject({ valid: true });
    // Nothing of the other one was spent by the question.
    expect(await auth.verify({ key: others.key, tenant: ANY_TENANT })).toMatchObject({ valid: true });
    const by = callerWith({ tenantId: id });
    expect((await refusalOf(auth.keys.get(others.apiKey.id, { by }))).code).toBe('not_found');
  });

  test('any environment can be requested only with a symbol', async () => {
    await using engine = await openTestEngine();
    const { key } = await engine.auth.keys.create({ ...INPUT, environment: 'test' });
    expect(await engine.auth.verify({ key, environment: ANY_ENVIRONMENT })).toMatchObject({ valid: true });
    for (const environment of ['any', '*', '', 'LIVE', null, 0, {}]) {
      const refused = await refusalOf(engine.auth.verify({ key, environment: untyped(environment) }));
      expect(refused).toMatchObject({ code: 'invalid_request', field: 'environment' });
    }
    for (const tenant of [null, 0, {}, ['default'], Symbol.for('any')]) {
      const refused = await refusalOf(engine.auth.verify({ key, tenant: untyped(tenant) }));
      expect(refused).toMatchObject({ code: 'invalid_request', field: 'tenant' });
    }
  });
});

describe('a value that is not a key', () => {
  test.each([undefined, null, 0, true, {}, [], Symbol('x'), Buffer.from('pan_live_')])(
    '%s: is malformed',
    async (key) => {
      await using engine = await openTestEngine();
      const { auth } = engine;
      const no = { valid: false, denial: { code: 'malformed' } };
      expect(await auth.verify({ key: untyped(key) })).toMatchObject(no);
      expect(await auth.tokens.verify({ token: untyped(key) })).toMatchObject(no);
      expect(await auth.tokens.exchange({ key: untyped(key) })).toMatchObject({ issued: false, verification: no });
      await auth.reportExposed(untyped(key), {
        actor: callerWith({}).auditContext.actor,
        requestId: null,
        reason: null,
      });
    },
  );
});

describe('a guard with options that require nothing, or that no request can meet', () => {
  const NOTHING = [[], undefined, null, '', [''], [undefined], 'docs:*', ['docs:read', 7], {}];
  test.each(NOTHING.map((wanted) => [JSON.stringify(wanted), wanted]))(
    '%s: is refused when it is created',
    async (_, wanted) => {
      for (const make of [forExpress, forFastify, forHono, (one: never) => forFetch(one, untyped(null))])
        expect(await refusalOf(() => make(untyped(wanted)))).toMatchObject({ code: 'invalid_setting' });
    },
  );

  test('a misspelt or unknown option of a guard is refused when the guard is created', async () => {
    const auth = untyped({});
    for (const options of [
      { permission: ['docs:read'] },
      { permissions: 'docs:read' },
      { permissions: ['docs:*'] },
      { tenant: null },
      { environment: 'any' },
      { accept: [] },
      { accept: ['key'] },
      { audience: [] },
      { cost: Number.POSITIVE_INFINITY },
    ])
      expect(await refusalOf(() => pantheonAuth(auth, untyped(options))), JSON.stringify(options)).toMatchObject({
        code: 'invalid_setting',
      });
  });
});

describe('a state that this version does not know', () => {
  test.each(['frozen', 'Suspended', 'ACTIVE', ''])(
    'of a tenant, "%s": its keys get 503, and it can be deleted',
    async (state) => {
      await using engine = await openTestEngine();
      const { auth } = engine;
      await auth.tenants.create({ id: 'acme' });
      const { key } = await auth.tenant('acme').keys.create(INPUT);
      const sound = await auth.keys.create(INPUT);
      await engine.sql(`update tenants set state = ? where id = 'acme'`, state);
      const again = await engine.openAgain();
      expect((await refusalOf(again.verify({ key, tenant: 'acme' }))).code).toBe('key_quarantined');
      expect(await again.verify({ key: sound.key })).toMatchObject({ valid: true });
      expect((await refusalOf(again.tenants.get('acme'))).code).toBe('tenant_quarantined');
      expect((await refusalOf(again.tenants.resume('acme'))).code).toBe('tenant_quarantined');
      expect((await again.tenants.list()).items).toMatchObject([
        { id: 'acme', quarantined: true },
        { id: 'default', state: 'active' },
        { id: 'system', state: 'active' },
      ]);
      expect(await again.tenants.suspend('acme')).toMatchObject({ state: 'suspended' });
      expect(await again.verify({ key, tenant: 'acme' })).toMatchObject({
        valid: false,
        denial: { code: 'suspended' },
      });
    },
  );

  test('of a key: requests with it get 503, also if the whole row was written so', async () => {
    await using engine = await openTestEngine();
    const { key, apiKey } = await engine.auth.keys.create(INPUT);
    await engine.sql(`update api_keys set state = 'frozen' where id = ?`, apiKey.id);
    const again = await engine.openAgain();
    expect((await refusalOf(again.verify({ key }))).code).toBe('key_quarantined');
  });

  test('a key whose tenant row is missing gets 503 and is not denied', async () => {
    await using engine = await openTestEngine();
    await engine.auth.tenants.create({ id: 'acme' });
    const { key, apiKey } = await engine.auth.tenant('acme').keys.create(INPUT);
    await removeTenant(engine, 'acme');
    const again = await engine.openAgain();
    expect((await refusalOf(again.verify({ key, tenant: 'acme' }))).code).toBe('key_quarantined');
    expect((await again.tenant('acme').keys.list()).items).toMatchObject([{ id: apiKey.id, quarantined: true }]);
  });
});

describe('a setting of the database with an invalid value', () => {
  test.each(['Infinity', 'banana', '', '-1', '0', '1e9', '99', '60001', ' 1000', '1000.5', '0x3e8', 'NaN'])(
    'stalenessMaxMs "%s": stops the start, and the error names it',
    async (value) => {
      await using engine = await openTestEngine();
      await engine.sql(`update meta set value = ? where name = 'stalenessMaxMs'`, value);
      const refused = await refusalOf(engine.openAgain());
      expect(refused.code).toBe('store_unusable');
      expect(refused.message).toContain('stalenessMaxMs');
    },
  );
});

describe('a misspelt option, or an unknown value', () => {
  test.each([
    ['masterkey', 'x'],
    ['limits', 'banana'],
    ['limits', null],
    ['knownKeysMax', Number.POSITIVE_INFINITY],
    ['knownKeysMax', '5'],
    ['audience', 'https://api.example.com'],
    ['audience', ['']],
    ['logger', {}],
    ['clock', Date],
  ])('%s: %s stops the start, and the error names it', async (name, value) => {
    await using engine = await openTestEngine();
    const refused = await refusalOf(engine.openAgain(untyped({ [name]: value })));
    expect(refused).toMatchObject({ code: 'invalid_setting', field: name });
  });
});

/** PostgreSQL holds to the reference also against whoever writes past us. */
async function removeTenant(engine: TestEngine, id: string): Promise<void> {
  if (STORE === 'postgres') await engine.sql('alter table api_keys drop constraint api_keys_tenant_id_fkey');
  await engine.sql('delete from tenants where id = ?', id);
  if (STORE === 'postgres')
    await engine.sql(
      'alter table api_keys add constraint api_keys_tenant_id_fkey foreign key (tenant_id) references tenants not valid',
    );
}

test('an option that is neither true nor false is refused: nothing is forced and no cascade runs', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const system = auth.tenant('system').keys;
  const admin = await system.create({ userId: 'u', name: 'last', permissions: ['pantheon:*'], grantable: ['*'] });
  const [signing] = auth.tokens.signingKeys();
  const store = { read: () => null, write: () => expect.unreachable() };
  const { apiKey: parent } = await auth.keys.create({ userId: 'u', name: 'parent', permissions: ['pantheon:keys:*'] });
  for (const value of ['true', 'false', 1, 0, null, {}] as unknown as true[]) {
    for (const [field, call] of [
      ['force', () => system.suspend(admin.apiKey.id, { force: value })],
      ['force', () => system.revoke(admin.apiKey.id, { force: value })],
      ['force', () => system.update(admin.apiKey.id, { permissions: [] }, { force: value })],
      ['cascade', () => auth.keys.revoke(parent.id, { cascade: value })],
      ['settle', () => auth.keys.revoke(parent.id, { settle: value })],
      ['settle', () => auth.rotation.rotate(parent.id, {}, { settle: value })],
      ['settle', () => auth.rotation.retire(parent.id, 1, { settle: value })],
      ['compromised', () => auth.tokens.retireSigningKey(signing?.kid ?? '', { compromised: value })],
      ['recover', () => auth.bootstrap(store, { recover: value })],
      ['apply', () => acceptClock(engine.options, { apply: value })],
    ] as const)
      expect(await refusalOf(call()), `${field} ${String(value)}`).toMatchObject({ code: 'invalid_request', field });
  }
  expect(await system.get(admin.apiKey.id)).toMatchObject({ state: 'active', permissions: ['pantheon:*'] });
  expect(await auth.keys.get(parent.id)).toMatchObject({ state: 'active', version: 1 });
  expect(auth.tokens.signingKeys()).toHaveLength(6);
});

test('a key that revokes itself never cascades, whatever is passed', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key, apiKey } = await auth.keys.create({
    userId: 'u',
    name: 'parent',
    permissions: ['pantheon:keys:create', 'docs:read'],
    grantable: ['docs:read'],
  });
  const by = await callerFor(auth, key);
  const child = await auth.keys.create({ userId: 'u', name: 'child', permissions: ['docs:read'] }, { by });
  await auth.keys.revokeSelf(by, { cascade: true, force: true } as object);
  expect(await auth.keys.get(apiKey.id)).toMatchObject({ state: 'revoked' });
  expect(await auth.keys.get(child.apiKey.id)).toMatchObject({ state: 'active' });
});
