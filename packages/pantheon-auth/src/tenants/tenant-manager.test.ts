import { expect, test } from 'vitest';
import { callerWith, openWorld, refusalOf } from '../../test/fixture.ts';

const SYSTEM = { tenantId: 'system' };

test('the permanent ones are there from the first start and cannot be deleted; the system is never suspended', async () => {
  await using world = await openWorld();
  const { tenants } = world.auth;
  expect((await tenants.list()).items.map(({ id, state }) => [id, state])).toEqual([
    ['default', 'active'],
    ['system', 'active'],
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

test('made, read, renamed, suspended, resumed, deleted: each change is one event, none changes nothing', async () => {
  await using world = await openWorld();
  const { tenants, events } = world.auth;
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

test('an id that is taken, was taken, or is none is refused', async () => {
  await using world = await openWorld();
  const { tenants } = world.auth;
  await tenants.create({ id: 'acme' });
  expect(await refusalOf(tenants.create({ id: 'acme' }))).toMatchObject({ code: 'already_exists', field: 'id' });
  for (const id of ['', 'Acme', 'a b', '-a', 'a-', 'a/b', '..', 'ü', 'x'.repeat(65)]) {
    expect(await refusalOf(tenants.create({ id })), id).toMatchObject({ code: 'invalid_request', field: 'id' });
    expect((await refusalOf(tenants.get(id))).code, id).toBe('not_found');
  }
  expect((await refusalOf(tenants.create({ id: 'fine', name: ' ' }))).field).toBe('name');
});

test('made by two processes at once, it is made once, and the other is told as if it came later', async () => {
  await using world = await openWorld();
  const other = await world.openAgain();
  const outcomes = await Promise.allSettled([
    world.auth.tenants.create({ id: 'acme' }),
    other.tenants.create({ id: 'acme' }),
  ]);
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(outcomes.find((one) => one.status === 'rejected')?.reason).toMatchObject({ code: 'already_exists' });
});

test('suspended and renamed by several at once, everything happens and nothing twice', async () => {
  await using world = await openWorld();
  const other = await world.openAgain();
  await world.auth.tenants.create({ id: 'acme' });
  await Promise.all([
    world.auth.tenants.suspend('acme'),
    other.tenants.suspend('acme'),
    other.tenants.update('acme', { name: 'new' }),
  ]);
  expect(await other.tenants.get('acme')).toMatchObject({ name: 'new', state: 'suspended' });
  expect((await other.events.list('acme')).items).toHaveLength(3);
});

test('only keys of the system manage tenants, each with its permission; for others there are none (I10)', async () => {
  await using world = await openWorld();
  const { tenants } = world.auth;
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
  const by = callerWith({ ...SYSTEM, permissions: ['pantheon:tenants:*'] });
  expect(await tenants.create({ id: 'new' }, { by })).toMatchObject({ id: 'new' });
});

test('pages are in order of id and together are all of them', async () => {
  await using world = await openWorld();
  const { tenants } = world.auth;
  for (const id of ['c', 'a', 'b']) await tenants.create({ id });
  const first = await tenants.list({ limit: 3 });
  const second = await tenants.list({ limit: 3, cursor: first.nextCursor ?? '' });
  expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(['a', 'b', 'c', 'default', 'system']);
  expect(second.nextCursor).toBeNull();
  expect((await refusalOf(tenants.list({ limit: 0 }))).field).toBe('limit');
});

test('suspending one refuses all its keys at once, here and in other processes, and resuming takes it back', async () => {
  await using world = await openWorld();
  const other = await world.openAgain();
  await world.auth.tenants.create({ id: 'acme' });
  const { key } = await world.auth.tenant('acme').keys.create({ userId: 'u', name: 'n' });
  const answers = async (): Promise<unknown[]> => {
    world.clock.advance(1);
    const all = [];
    for (const auth of [world.auth, other]) {
      const answer = await auth.verify({ key, tenant: 'acme' });
      all.push(answer.valid ? 'valid' : answer.denial.code);
    }
    return all;
  };
  expect(await answers()).toEqual(['valid', 'valid']);
  await world.auth.tenants.suspend('acme');
  expect(await answers()).toEqual(['suspended', 'suspended']);
  await other.tenants.resume('acme');
  expect(await answers()).toEqual(['valid', 'valid']);
});
