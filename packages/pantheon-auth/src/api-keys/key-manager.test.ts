import { describe, expect, test, vi } from 'vitest';
import { callerWith, keyAndCaller } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { PAGE_MAX } from '../commands/pages.ts';
import { READS_AT_ONCE_MAX } from '../foundation/read-turns.ts';
import { KeyStorage } from './key-storage.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** A key, and a caller with all that it holds. */
describe('creating and reading', () => {
  test('creating answers the record and the string, the string is accepted, and no later answer contains it', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, metadata: { a: 1 } });
    expect(apiKey).toMatchObject({
      ...INPUT,
      tenantId: 'default',
      environment: 'live',
      state: 'active',
      isActive: true,
    });
    expect(apiKey.hint).toBe(`${key.slice(0, 'pan_live_'.length + 16)}…`);
    expect(await auth.verify({ key, permissions: ['docs:read'] })).toMatchObject({ valid: true });
    const later = JSON.stringify([
      await auth.keys.get(apiKey.id),
      await auth.keys.list(),
      await auth.keys.versions(apiKey.id),
      await auth.events.list('default'),
    ]);
    expect(later).not.toContain(key.slice('pan_live_'.length + 16));
    expect(later).not.toContain('keyHash');
  });

  test('a hundred searches of one client that has disconnected cost two, and delay no other tenant', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.keys.create(INPUT);
    await auth.tenants.create({ id: 'other' });
    const read = vi.spyOn(KeyStorage.prototype, 'list');
    const client = new AbortController();
    const searches = Array.from({ length: 100 }, () => auth.keys.list({ q: 'nothing' }, { signal: client.signal }));
    const ended = Promise.allSettled(searches);
    await vi.waitUntil(() => read.mock.calls.length > 0, { interval: 0 });
    client.abort(new Error('gone'));
    expect((await auth.tenant('other').keys.list()).items).toEqual([]);
    expect(new Set((await ended).map(({ status }) => status))).toContain('rejected');
    // Those that had begun, and the one of the other tenant. More only if a search came to its end before.
    const begun = read.mock.calls.filter(([query]) => query.text === 'nothing').length;
    const idempotency = (await ended).filter(({ status }) => status === 'fulfilled').length;
    expect(begun).toBeLessThanOrEqual(READS_AT_ONCE_MAX + idempotency);
    read.mockRestore();
  });

  test('usage is shown in the record, by version and in the report, before and after it is stored', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, ipAllowlist: ['10.0.0.0/8'] });
    await auth.verify({ key, ip: '10.0.0.1' });
    await auth.verify({ key, ip: '192.0.2.1' });
    const seen = { usageCount: 1, lastUsedAt: new Date(clock.now()) };
    expect(await auth.keys.get(apiKey.id)).toMatchObject(seen);
    const { key: next } = await auth.rotation.rotate(apiKey.id);
    await auth.verify({ key: next, ip: '10.0.0.2' });
    expect(await auth.keys.versions(apiKey.id)).toMatchObject([
      { version: 2, state: 'current', usageCount: 1, lastAddresses: ['10.0.0.2'] },
      { version: 1, state: 'accepted', usageCount: 1, lastAddresses: ['10.0.0.1'] },
    ]);
    await auth.close();
    const again = await engine.openAgain();
    expect((await again.keys.list()).items).toMatchObject([{ usageCount: 2 }]);
    const range = { from: clock.now() - 60_000, to: clock.now() + 60_000, granularity: 'day' } as const;
    const outcomes = { valid: 2, ip_not_allowed: 1 };
    expect(await again.keys.usage(apiKey.id, range)).toMatchObject({ items: [{ outcomes }] });
    expect(await again.keys.usage(null, range)).toMatchObject({ items: [{ outcomes }] });
    expect((await refusalOf(again.keys.usage('NeverMadeNeverMa', range))).code).toBe('not_found');
  });

  test('a page has a bounded size, and all pages together contain each key once', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1) {
      ids.unshift((await auth.keys.create({ ...INPUT, name: `key ${n}` })).apiKey.id);
      clock.advance(1);
    }
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await auth.keys.list({ limit: 3, ...(cursor && { cursor }) });
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    expect(seen).toEqual(ids);
    for (const limit of [0, -1, 1.5, PAGE_MAX + 1, Number.NaN])
      expect((await refusalOf(auth.keys.list({ limit }))).field).toBe('limit');
    expect((await auth.keys.list({ q: 'key 3' })).items).toMatchObject([{ name: 'key 3' }]);
    expect((await auth.keys.list({ userId: 'nobody' })).items).toEqual([]);
    expect((await auth.keys.list({ state: 'revoked' })).items).toEqual([]);
    expect((await auth.keys.list({ environment: 'test' })).items).toEqual([]);
  });

  test('a cursor is accepted only for its list and its tenant', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    for (const tenant of ['default', 'acme'])
      for (let n = 0; n < 3; n += 1) await auth.tenant(tenant).keys.create(INPUT);
    const cursorOf = async (tenant: string): Promise<string> =>
      (await auth.tenant(tenant).keys.list({ limit: 1 })).nextCursor ?? '';
    const own = await cursorOf('default');
    const events = (await auth.events.list('default', { limit: 1 })).nextCursor ?? '';
    const tenants = (await auth.tenants.list({ limit: 1 })).nextCursor ?? '';
    const tampered = `${own.slice(0, -2)}${own.endsWith('AA') ? 'BA' : 'AA'}`;
    for (const cursor of [
      await cursorOf('acme'),
      events,
      tenants,
      tampered,
      '',
      '%',
      own.slice(1),
      'A'.repeat(600),
      `${own}=`,
    ])
      expect((await refusalOf(auth.keys.list({ cursor }))).code, cursor).toBe('invalid_cursor');
    for (const cursor of [own, tenants, 'x'])
      expect((await refusalOf(auth.events.list('default', { cursor }))).code, cursor).toBe('invalid_cursor');
    expect((await refusalOf(auth.events.list('default', { cursor: events, order: 'oldest_first' }))).code).toBe(
      'invalid_cursor',
    );
    expect((await refusalOf(auth.tenants.list({ cursor: own }))).code).toBe('invalid_cursor');
    expect((await auth.keys.list({ limit: 1, cursor: own })).items).toHaveLength(1);
  });
});

describe('permissions', () => {
  test('every call needs its own permission and says which one is missing', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = await keyAndCaller(engine, 'default');
    const { by } = await keyAndCaller(engine, 'default', { permissions: ['docs:*'] });
    const range = { from: 0, to: 1, granularity: 'day' } as const;
    const calls: Record<string, () => Promise<unknown>> = {
      create: () => auth.keys.create(INPUT, { by }),
      read: () => auth.keys.get(id, { by }),
      'read ': () => auth.keys.list({}, { by }),
      'read  ': () => auth.keys.versions(id, { by }),
      'read   ': () => auth.keys.usage(null, range, { by }),
      update: () => auth.keys.update(id, { name: 'x' }, { by }),
      'update ': () => auth.keys.suspend(id, { by }),
      'update  ': () => auth.keys.resume(id, { by }),
      rotate: () => auth.rotation.rotate(id, {}, { by }),
      'rotate ': () => auth.rotation.retire(id, 1, { by }),
      revoke: () => auth.keys.revoke(id, { by }),
    };
    for (const [action, call] of Object.entries(calls)) {
      const error = await refusalOf(call);
      expect(error.code).toBe('insufficient_permissions');
      expect(error.detail).toContain(`pantheon:keys:${action.trim()}`);
    }
  });

  test('no caller grants, rotates or resumes what it may not grant', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const strong = await keyAndCaller(engine, 'default', { permissions: ['billing:*'] });
    const { by } = await keyAndCaller(engine, 'default', { permissions: ['pantheon:*'], grantable: ['docs:*'] });
    expect((await refusalOf(auth.keys.create({ ...INPUT, permissions: ['billing:read'] }, { by }))).field).toBe(
      'permissions[0]',
    );
    expect((await refusalOf(auth.keys.create({ ...INPUT, grantable: ['*'] }, { by }))).field).toBe('grantable[0]');
    for (const attempt of [
      () => auth.keys.update(strong.id, { permissions: ['docs:read'] }, { by }),
      () => auth.rotation.rotate(strong.id, {}, { by }),
      () => auth.keys.resume(strong.id, { by }),
      () => auth.tokens.issue({ tenantId: 'default', keyId: strong.id }, {}, { by }),
    ])
      expect((await refusalOf(attempt)).code).toBe('not_grantable');
    // Taking away needs no such right.
    expect(await auth.keys.suspend(strong.id, { by })).toMatchObject({ state: 'suspended' });
    expect(await auth.keys.revoke(strong.id, { by })).toMatchObject({ state: 'revoked' });
  });

  test('a key may change its own name, and none of its own policy', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, by } = await keyAndCaller(engine, 'default', {
      permissions: ['pantheon:keys:*', 'docs:read'],
      grantable: ['docs:read'],
      expiresIn: '1h',
    });
    expect(await auth.keys.update(id, { name: 'mine', description: 'd', metadata: { a: 1 } }, { by })).toMatchObject({
      name: 'mine',
      createdAt: expect.any(Date),
    });
    for (const change of [
      { expiresIn: '10m' },
      { rateLimits: [{ name: 'a', limit: 1, window: '1s' }] },
      { permissions: ['docs:read'] },
      { ipAllowlist: ['10.0.0.0/8'] },
      { userId: 'other' },
    ])
      expect((await refusalOf(auth.keys.update(id, change, { by }))).code).toBe('not_allowed');
  });

  test('the lifetime and addresses of a child lie within those of its creator, also when it is changed later', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, by } = await keyAndCaller(engine, 'default', {
      permissions: ['pantheon:*'],
      grantable: ['*'],
      expiresIn: '1h',
      ipAllowlist: ['192.0.2.0/24'],
    });
    const child = { ...INPUT, expiresIn: '30m', ipAllowlist: ['192.0.2.0/25'] };
    const { apiKey } = await auth.keys.create(child, { by });
    expect(apiKey.createdBy).toBe(id);
    for (const [input, field] of [
      [{ ...child, expiresIn: '2h' }, 'expiresAt'],
      [INPUT, 'expiresAt'],
      [{ ...child, ipAllowlist: [] }, 'ipAllowlist'],
      [{ ...child, ipAllowlist: ['0.0.0.0/0'] }, 'ipAllowlist'],
    ] as const)
      expect(await refusalOf(auth.keys.create(input, { by }))).toMatchObject({ code: 'not_grantable', field });
    expect((await refusalOf(auth.keys.update(apiKey.id, { expiresAt: null }, { by }))).code).toBe('not_grantable');
    expect(await auth.keys.update(apiKey.id, { expiresIn: '50m' }, { by })).toMatchObject({ id: apiKey.id });
  });

  test('a holder reads and revokes its own key; the process has no key of its own', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, by } = await keyAndCaller(engine, 'default');
    expect(await auth.keys.getSelf(by)).toMatchObject({ id });
    expect(await auth.keys.revokeSelf(by, { reason: 'lost' })).toMatchObject({ id, state: 'revoked' });
    const process = { ...by, authority: { kind: 'process' } } as const;
    expect((await refusalOf(auth.keys.getSelf(process))).code).toBe('not_allowed');
    expect((await refusalOf(auth.rotation.rotateSelf(process))).code).toBe('not_allowed');
  });

  test('an event contains who made a change, from where, why, and the values before', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = await keyAndCaller(engine, 'default');
    const actor = await keyAndCaller(engine, 'default', { permissions: ['pantheon:*'], grantable: ['*'] });
    const { by } = actor;
    await auth.keys.update(id, { name: 'new' }, { by });
    await auth.keys.suspend(id, { by, reason: 'looking into it' });
    const { items } = await auth.events.list('default', { subjectId: id });
    expect(items).toMatchObject([
      { type: 'key.suspended', reason: 'looking into it', before: { state: 'active' }, after: { state: 'suspended' } },
      {
        type: 'key.updated',
        actor: { keyId: actor.id, userId: 'caller', address: '192.0.2.1', userAgent: 'test' },
        requestId: 'request-1',
        before: { name: 'n' },
        after: { name: 'new' },
      },
      { type: 'key.created', actor: { keyId: null } },
    ]);
  });

  test('a call that changes nothing writes no event', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = await keyAndCaller(engine, 'default');
    for (const call of [
      () => auth.keys.resume(id),
      () => auth.keys.update(id, { name: 'n' }),
      () => auth.keys.update(id, {}),
      () => auth.keys.suspend(id),
      () => auth.keys.suspend(id),
      () => auth.keys.revoke(id),
      () => auth.keys.revoke(id),
    ])
      await call();
    const { items } = await auth.events.list('default', { subjectId: id });
    expect(items.map(({ type }) => type)).toEqual(['key.revoked', 'key.suspended', 'key.created']);
  });

  test('no keys are created in a suspended tenant, nor in one that does not exist', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    await auth.tenants.suspend('acme');
    expect((await refusalOf(auth.tenant('acme').keys.create(INPUT))).code).toBe('not_allowed');
    expect((await refusalOf(auth.tenant('nowhere').keys.create(INPUT))).code).toBe('not_found');
  });
});

describe('changes at the same moment', () => {
  test('changes of one key at the same moment are all made, one after the other', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = await keyAndCaller(engine, 'default');
    const names = ['a', 'b', 'c', 'd'];
    await Promise.all([
      ...names.map((name) => auth.keys.update(id, { description: name })),
      auth.keys.suspend(id, { reason: 'r' }),
    ]);
    const { items } = await auth.events.list('default', { subjectId: id });
    expect(items.map(({ type }) => type).toSorted()).toEqual([
      'key.created',
      'key.suspended',
      ...names.map(() => 'key.updated'),
    ]);
    expect(await auth.keys.get(id)).toMatchObject({ state: 'suspended' });
  });
});

describe('cascade', () => {
  test('revokes children and their children, over pages and tenants, and no other keys', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    const root = await keyAndCaller(engine, 'system', { permissions: ['pantheon:*'], grantable: ['*'] });
    const spare = await keyAndCaller(engine, 'system', { permissions: ['pantheon:*'], grantable: ['*'] });
    const manage = { permissions: ['pantheon:keys:*'], grantable: ['docs:read'] };
    const child = await auth.tenant('acme').keys.create({ ...INPUT, ...manage }, { by: root.by });
    const childBy = callerWith({ apiKey: child.apiKey, tenantId: 'acme', ...manage });
    const grandchildren: string[] = [];
    for (let n = 0; n < 103; n += 1)
      grandchildren.push((await auth.tenant('acme').keys.create(INPUT, { by: childBy })).apiKey.id);
    const stranger = await auth.tenant('acme').keys.create(INPUT);
    // A damaged one in the middle neither stops the others nor escapes.
    const damaged = grandchildren[50] ?? '';
    await engine.sql(`update api_keys set name = 'x' where id = ?`, damaged);

    await auth.tenant('system').keys.revoke(root.id, { cascade: true, reason: 'leaked' });
    const states = new Map((await allOf(auth.tenant('acme').keys)).map((key) => [key.id, 'state' in key && key.state]));
    expect(states.get(stranger.apiKey.id)).toBe('active');
    expect([child.apiKey.id, ...grandchildren].filter((id) => states.get(id) !== 'revoked')).toEqual([]);
    expect(await auth.tenant('system').keys.get(spare.id)).toMatchObject({ state: 'active' });
  });

  test('without it children stay active, and repeating the call with it revokes them', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const parent = await keyAndCaller(engine, 'default', {
      permissions: ['pantheon:keys:*', 'docs:read'],
      grantable: ['docs:read'],
    });
    const child = await auth.keys.create(INPUT, { by: parent.by });
    await auth.keys.revoke(parent.id);
    expect(await auth.keys.get(child.apiKey.id)).toMatchObject({ state: 'active' });
    await auth.keys.revoke(parent.id, { cascade: true });
    expect(await auth.keys.get(child.apiKey.id)).toMatchObject({ state: 'revoked' });
  });
});

describe('the last administrator', () => {
  const ADMIN = { permissions: ['pantheon:*'], grantable: ['*'] };

  test('is not revoked, suspended, restricted or given an expiry without force', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { keys } = auth.tenant('system');
    const { id } = await keyAndCaller(engine, 'system', ADMIN);
    for (const attempt of [
      () => keys.revoke(id),
      () => keys.suspend(id),
      () => keys.update(id, { permissions: [] }),
      () => keys.update(id, { expiresIn: '1h' }),
      () => keys.update(id, { notBefore: '2040-01-01T00:00:00Z' }),
    ])
      expect((await refusalOf(attempt)).code).toBe('last_administrator');
    expect(await keys.update(id, { name: 'still' })).toMatchObject({ name: 'still' });
    expect(await keys.update(id, { expiresIn: '1h' }, { force: true })).toMatchObject({ isActive: true });
    // It has an end now; what is not about that is not asked again.
    expect(await keys.update(id, { name: 'renamed' })).toMatchObject({ name: 'renamed' });
    expect(await keys.revoke(id, { force: true })).toMatchObject({ state: 'revoked' });
  });

  test('can be suspended twice like any other key: the second call changes nothing and needs no force', async () => {
    await using engine = await openTestEngine();
    const { keys } = engine.auth.tenant('system');
    const { id } = await keyAndCaller(engine, 'system', ADMIN);
    const suspended = await keys.suspend(id, { force: true });
    expect(await keys.suspend(id)).toEqual(suspended);
    const stale = await refusalOf(keys.suspend(id, { ifMatch: '"k1"' }));
    expect(stale.code).toBe('precondition_failed');
    await keys.resume(id);
    expect((await refusalOf(keys.suspend(id))).code).toBe('last_administrator');
  });

  test('is no longer the last once there is another usable one', async () => {
    await using engine = await openTestEngine();
    const { keys } = engine.auth.tenant('system');
    const first = await keyAndCaller(engine, 'system', ADMIN);
    const second = await keyAndCaller(engine, 'system', { ...ADMIN, notBefore: '2040-01-01T00:00:00Z' });
    expect((await refusalOf(keys.revoke(first.id))).code).toBe('last_administrator');
    await keys.update(second.id, { notBefore: null });
    expect(await keys.revoke(first.id)).toMatchObject({ state: 'revoked' });
    expect((await refusalOf(keys.revoke(second.id))).code).toBe('last_administrator');
  });

  test('is not revoked by a cascade from the key that created it either', async () => {
    await using engine = await openTestEngine();
    const { keys } = engine.auth.tenant('system');
    const first = await keyAndCaller(engine, 'system', ADMIN);
    const second = await keys.create({ ...INPUT, ...ADMIN }, { by: first.by });
    expect((await refusalOf(keys.revoke(first.id, { cascade: true }))).code).toBe('last_administrator');
    expect(await keys.get(second.apiKey.id)).toMatchObject({ state: 'active' });
    await keys.revoke(first.id, { cascade: true, force: true });
    expect(await keys.get(second.apiKey.id)).toMatchObject({ state: 'revoked' });
  });

  test('of two that are revoked at the same moment, in one process or two, one remains', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    for (const second of [engine.auth, other]) {
      const [one, two] = [await keyAndCaller(engine, 'system', ADMIN), await keyAndCaller(engine, 'system', ADMIN)];
      const outcomes = await Promise.allSettled([
        engine.auth.tenant('system').keys.revoke(one.id),
        second.tenant('system').keys.revoke(two.id),
      ]);
      const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      expect(refused).toMatchObject([{ code: 'last_administrator' }]);
      const left = (await engine.auth.tenant('system').keys.list({ state: 'active' })).items;
      expect(left).toHaveLength(1);
      await engine.auth.tenant('system').keys.revoke(left[0]?.id ?? '', { force: true });
    }
  });

  test('does not exist in other tenants: they are administered from the system tenant', async () => {
    await using engine = await openTestEngine();
    const { id } = await keyAndCaller(engine, 'default', ADMIN);
    expect(await engine.auth.keys.revoke(id)).toMatchObject({ state: 'revoked' });
  });
});

async function allOf(keys: TestEngine['auth']['keys']) {
  const items: Awaited<ReturnType<typeof keys.list>>['items'][number][] = [];
  let cursor: string | null = null;
  do {
    const page = await keys.list({ limit: PAGE_MAX, ...(cursor !== null && { cursor }) });
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return items;
}
