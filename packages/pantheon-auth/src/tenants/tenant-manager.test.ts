import { describe, expect, test, vi } from 'vitest';
import { callerWith, keyAndCaller } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import type { Caller } from '../domain/key-policy.ts';
import { TenantStorage } from './tenant-storage.ts';

const SYSTEM = { tenantId: 'system' };

test('the permanent tenants exist from the first start and cannot be deleted; the system tenant is never suspended', async () => {
  await using engine = await openTestEngine();
  const { tenants } = engine.auth;
  expect((await tenants.list()).items).toMatchObject([
    { id: 'default', state: 'active' },
    { id: 'system', state: 'active' },
  ]);
  for (const attempt of [
    () => tenants.delete('default'),
    () => tenants.delete('system'),
    () => tenants.suspend('system'),
  ])
    expect(await refusalOf(attempt)).toMatchObject({ code: 'not_allowed', field: 'id' });
  expect(await tenants.suspend('default')).toMatchObject({ state: 'suspended' });
  expect(await tenants.resume('default')).toMatchObject({ state: 'active' });
});

test('a tenant is created, read, renamed, suspended, resumed, deleted: each change is one event, and a repeated call changes nothing', async () => {
  await using engine = await openTestEngine();
  const { tenants, events } = engine.auth;
  expect(await tenants.create({ id: 'acme' })).toMatchObject({ id: 'acme', name: 'acme', state: 'active' });
  expect(await tenants.update('acme', { name: 'Acme Ltd' })).toMatchObject({ name: 'Acme Ltd' });
  await tenants.update('acme', { name: 'Acme Ltd' });
  await tenants.suspend('acme', { reason: 'unpaid' });
  await tenants.suspend('acme');
  await tenants.resume('acme');
  await tenants.resume('acme');
  expect(await tenants.get('acme')).toMatchObject({ name: 'Acme Ltd', state: 'active', createdAt: expect.any(Date) });
  await tenants.delete('acme');
  const { items } = await events.list('acme', { order: 'oldest_first' });
  expect(items.map(({ type }) => type)).toEqual([
    'tenant.created',
    'tenant.updated',
    'tenant.suspended',
    'tenant.resumed',
    'tenant.deleted',
  ]);
  expect(items[2]).toMatchObject({ reason: 'unpaid', before: { state: 'active' }, after: { state: 'suspended' } });
});

test('an id that exists, existed before or is invalid is refused', async () => {
  await using engine = await openTestEngine();
  const { tenants } = engine.auth;
  await tenants.create({ id: 'acme' });
  expect(await refusalOf(tenants.create({ id: 'acme' }))).toMatchObject({ code: 'already_exists', field: 'id' });
  for (const id of ['', 'Acme', 'a b', '-a', 'a-', 'a/b', '..', 'ü', 'x'.repeat(65)]) {
    expect(await refusalOf(tenants.create({ id })), id).toMatchObject({ code: 'invalid_request', field: 'id' });
    expect((await refusalOf(tenants.get(id))).code, id).toBe('not_found');
  }
  expect((await refusalOf(tenants.create({ id: 'fine', name: ' ' }))).field).toBe('name');
});

test('a tenant that two processes create at once is created once, and the other gets the answer of a later call', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const outcomes = await Promise.allSettled([
    engine.auth.tenants.create({ id: 'acme' }),
    other.tenants.create({ id: 'acme' }),
  ]);
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(outcomes.find((one) => one.status === 'rejected')?.reason).toMatchObject({ code: 'already_exists' });
});

test('of changes by several callers at once each is made, and none twice', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  await engine.auth.tenants.create({ id: 'acme' });
  await Promise.all([
    engine.auth.tenants.suspend('acme'),
    other.tenants.suspend('acme'),
    other.tenants.update('acme', { name: 'new' }),
  ]);
  expect(await other.tenants.get('acme')).toMatchObject({ name: 'new', state: 'suspended' });
  expect((await other.events.list('acme')).items).toHaveLength(3);
});

test('only keys of the system tenant manage tenants, each with its permission; for others there are none (I10)', async () => {
  await using engine = await openTestEngine();
  const { tenants } = engine.auth;
  await tenants.create({ id: 'acme' });
  const calls = (by: ReturnType<typeof callerWith>) => ({
    create: () => tenants.create({ id: 'new' }, { by }),
    read: () => tenants.get('acme', { by }),
    'read ': () => tenants.list({}, { by }),
    update: () => tenants.update('acme', { name: 'x' }, { by }),
    suspend: () => tenants.suspend('acme', { by }),
    'suspend ': () => tenants.resume('acme', { by }),
    delete: () => tenants.delete('acme', { by }),
  });
  const expected = (await refusalOf(tenants.get('never-made'))).message;
  for (const call of Object.values(calls(callerWith({ tenantId: 'acme' }))))
    expect((await refusalOf(call)).message).toBe(expected);
  for (const [action, call] of Object.entries(calls(callerWith({ ...SYSTEM, permissions: ['pantheon:keys:*'] })))) {
    const error = await refusalOf(call);
    expect(error.code).toBe('insufficient_permissions');
    expect(error.detail).toContain(`pantheon:tenants:${action.trim()}`);
  }
  const { by } = await keyAndCaller(engine, 'system', { permissions: ['pantheon:tenants:*'] });
  expect(await tenants.create({ id: 'new' }, { by })).toMatchObject({ id: 'new' });
});

test('pages are in order of id and contain each tenant once', async () => {
  await using engine = await openTestEngine();
  const { tenants } = engine.auth;
  for (const id of ['c', 'a', 'b']) await tenants.create({ id });
  const first = await tenants.list({ limit: 3 });
  const second = await tenants.list({ limit: 3, cursor: first.nextCursor ?? '' });
  expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(['a', 'b', 'c', 'default', 'system']);
  expect(second.nextCursor).toBeNull();
  expect((await refusalOf(tenants.list({ limit: 0 }))).field).toBe('limit');
});

test('suspending a tenant denies all its keys at once, here and in other processes, and resuming accepts them again', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  await engine.auth.tenants.create({ id: 'acme' });
  const { key } = await engine.auth.tenant('acme').keys.create({ userId: 'u', name: 'n' });
  const answers = async (): Promise<unknown[]> => {
    engine.clock.advance(1);
    await engine.propagate();
    const all = [];
    for (const auth of [engine.auth, other]) {
      const answer = await auth.verify({ key, tenant: 'acme' });
      all.push(answer.valid ? 'valid' : answer.denial.code);
    }
    return all;
  };
  expect(await answers()).toEqual(['valid', 'valid']);
  await engine.auth.tenants.suspend('acme');
  expect(await answers()).toEqual(['suspended', 'suspended']);
  await other.tenants.resume('acme');
  expect(await answers()).toEqual(['valid', 'valid']);
});

describe('a change is made only if its caller still may when it is committed', () => {
  /** A system key that manages tenants, and what happens to it after it was looked at and before the commit. */
  async function administrator(engine: TestEngine, between: (id: string) => Promise<unknown>, times = 1) {
    const { auth } = engine;
    const keys = auth.tenant('system').keys;
    await keys.create({ userId: 'r', name: 'other', permissions: ['pantheon:*'], grantable: ['*'] });
    const { apiKey } = await keys.create({ userId: 'a', name: 'a', permissions: ['pantheon:tenants:*'] });
    const by = callerWith({ apiKey, tenantId: 'system', permissions: apiKey.permissions, grantable: [] });
    const commit = TenantStorage.prototype.commit;
    let left = times;
    // The moment cannot be hit from outside.
    const spy = vi.spyOn(TenantStorage.prototype, 'commit').mockImplementation(async function (
      this: TenantStorage,
      ...change
    ) {
      left -= 1;
      if (left >= 0) await between(apiKey.id);
      return commit.apply(this, change);
    });
    return { by, id: apiKey.id, attempts: () => times - left, [Symbol.dispose]: () => spy.mockRestore() };
  }
  const CHANGES: Readonly<Record<string, (engine: TestEngine, by: Caller) => Promise<unknown>>> = {
    create: ({ auth }, by) => auth.tenants.create({ id: 'next' }, { by }),
    update: ({ auth }, by) => auth.tenants.update('acme', { name: 'new' }, { by }),
    suspend: ({ auth }, by) => auth.tenants.suspend('acme', { by }),
    delete: ({ auth }, by) => auth.tenants.delete('acme', { by }),
  };

  test.each(Object.entries(CHANGES))('%s is refused for a key that was revoked in between', async (_name, change) => {
    await using engine = await openTestEngine();
    await engine.auth.tenants.create({ id: 'acme' });
    const before = (await engine.auth.events.list('acme')).items.length;
    using caller = await administrator(engine, (id) => engine.auth.tenant('system').keys.revoke(id));
    expect((await refusalOf(change(engine, caller.by))).code).toBe('revoked');
    expect((await engine.auth.events.list('acme')).items).toHaveLength(before);
    expect((await refusalOf(engine.auth.tenants.get('next'))).code).toBe('not_found');
  });

  test.each(Object.entries(CHANGES))(
    '%s is retried for a key that was only renamed in between',
    async (_name, change) => {
      await using engine = await openTestEngine();
      await engine.auth.tenants.create({ id: 'acme' });
      using caller = await administrator(engine, (id) => engine.auth.tenant('system').keys.update(id, { name: 'b' }));
      expect(await change(engine, caller.by)).toMatchObject({ id: expect.any(String) });
      expect(caller.attempts()).toBe(2);
    },
  );

  test('for a key that changes all the time it ends with a conflict, after a few attempts', async () => {
    await using engine = await openTestEngine();
    let name = 0;
    const rename = (id: string) => engine.auth.tenant('system').keys.update(id, { name: `name ${name++}` });
    using caller = await administrator(engine, rename, 100);
    expect((await refusalOf(engine.auth.tenants.create({ id: 'next' }, { by: caller.by }))).code).toBe('conflict');
    expect(caller.attempts()).toBe(5);
  });
});
