/**
 * Who changes something is who they are when it is committed, and not who they were when their request arrived: what a
 * caller may do, looked at across the whole engine.
 */

import { describe, expect, test, vi } from 'vitest';
import type { CreatedKey } from '../src/api-keys/key-manager.ts';
import { KeyValidator } from '../src/api-keys/key-validator.ts';
import type { Caller } from '../src/domain/key-policy.ts';
import { MINUTE_MS } from '../src/foundation/clock.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { callerFor } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine, type TestEngine, turn } from './test-engine.ts';

const ADMINISTRATOR = { userId: 'a', name: 'administrator', permissions: ['pantheon:*'], grantable: ['*'] };
const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

const system = (auth: PantheonAuth) => auth.tenant('system').keys;
const seqOf = (engine: TestEngine): Promise<unknown> => engine.sql('select seq from log_head');
const codeOf = async (work: Promise<unknown> | (() => unknown)): Promise<string> => (await refusalOf(work)).code;

describe('a caller whose key has changed since the request arrived changes nothing', () => {
  /** What happens to the key of the caller meanwhile. */
  const ENDS: Readonly<Record<string, (engine: TestEngine, id: string) => Promise<unknown>>> = {
    revoked: (engine, id) => system(engine.auth).revoke(id),
    suspended: (engine, id) => system(engine.auth).suspend(id),
    expired: async (engine, id) => {
      await system(engine.auth).update(id, { expiresIn: '5s' });
      engine.clock.advance(5_000);
    },
    insufficient_permissions: (engine, id) => system(engine.auth).update(id, { permissions: ['pantheon:keys:read'] }),
    ip_not_allowed: (engine, id) => system(engine.auth).update(id, { ipAllowlist: ['10.0.0.0/8'] }),
    version_retired: (engine, id) => engine.auth.tenant('system').rotation.rotate(id, { overlap: 0 }),
  };

  test.each(Object.entries(ENDS))('%s', async (code, end) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await system(auth).create(ADMINISTRATOR);
    const { key, apiKey } = await system(auth).create(ADMINISTRATOR);
    const { id } = (await auth.keys.create(INPUT)).apiKey;
    const suspended = (await auth.keys.create(INPUT)).apiKey;
    await auth.keys.suspend(suspended.id);
    const rotated = (await auth.keys.create(INPUT)).apiKey;
    await auth.rotation.rotate(rotated.id);
    await auth.keys.create(INPUT, { by: await callerFor(auth, key), idempotencyKey: 'answered-before' });
    const by = await callerFor(auth, key);
    const target = { tenantId: 'default', keyId: id };

    await end(engine, apiKey.id);

    const before = await seqOf(engine);
    const attempts = {
      create: () => auth.keys.create(INPUT, { by }),
      'create once': () => auth.keys.create(INPUT, { by, idempotencyKey: 'once' }),
      'create again': () => auth.keys.create(INPUT, { by, idempotencyKey: 'answered-before' }),
      update: () => auth.keys.update(id, { name: 'other' }, { by }),
      suspend: () => auth.keys.suspend(id, { by }),
      resume: () => auth.keys.resume(suspended.id, { by }),
      revoke: () => auth.keys.revoke(id, { by, cascade: true }),
      rotate: () => auth.rotation.rotate(id, {}, { by }),
      retire: () => auth.rotation.retire(rotated.id, 1, { by }),
      'tenants.create': () => auth.tenants.create({ id: 'acme' }, { by }),
      'tenants.update': () => auth.tenants.update('default', { name: 'other' }, { by }),
      'tenants.suspend': () => auth.tenants.suspend('default', { by }),
      'tenants.delete': () => auth.tenants.delete('default', { by }),
      'tokens.issue': () => auth.tokens.issue(target, {}, { by }),
      'tokens.revoke': () => auth.tokens.revoke({ ...target, tokenId: 't', expiresAt: 0 }, { by }),
      'tokens.revokeAllOf': () => auth.tokens.revokeAllOf(target, { by }),
    };
    for (const [name, attempt] of Object.entries(attempts)) {
      const done = attempt().then(
        () => 'done',
        (error) => error.code,
      );
      expect(await done, name).toBe(code);
    }
    expect(await seqOf(engine)).toEqual(before);
  });

  test('nor if its key was changed on another node', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    await system(engine.auth).create(ADMINISTRATOR);
    const { key, apiKey } = await system(engine.auth).create(ADMINISTRATOR);
    const by = await callerFor(other, key);
    await system(engine.auth).revoke(apiKey.id);
    // Within the turn the other node has not looked yet: its commit fails, and nothing was made.
    expect(await codeOf(other.keys.create(INPUT, { by }))).toMatch(/^(conflict|revoked)$/);
    await turn();
    expect(await codeOf(other.keys.create(INPUT, { by }))).toBe('revoked');
    expect((await engine.auth.keys.list()).items).toEqual([]);
  });

  test('creating a key while the caller is revoked with cascade leaves no active child', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const other = await engine.openAgain();
    await system(auth).create(ADMINISTRATOR);
    let refused = 0;
    for (let delay = 0; delay < 120; delay += 6) {
      const { key, apiKey } = await system(auth).create(ADMINISTRATOR);
      const by = await callerFor(other, key);
      const creating = Array.from({ length: 4 }, async (_, n) => {
        for (let step = 0; step < n * delay; step += 1) await null;
        return (n % 2 === 0 ? other : auth).keys.create(INPUT, { by });
      });
      for (let step = 0; step < delay; step += 1) await null;
      const revoking = system(auth).revoke(apiKey.id, { cascade: true });
      const settled = await Promise.allSettled([revoking, ...creating]);
      expect(settled[0]?.status).toBe('fulfilled');
      refused += settled.filter(({ status }) => status === 'rejected').length;
      for (const one of settled)
        if (one.status === 'rejected')
          expect(['revoked', 'conflict']).toContain(await codeOf(Promise.reject(one.reason)));
      const living = `select state from api_keys where created_by = ? and state <> 'revoked'`;
      const children = await engine.sql(living, apiKey.id);
      expect(children, `${delay} steps apart`).toEqual([]);
    }
    expect(refused).toBeGreaterThan(0);
  });
});

describe('repeating a create request gives no more than the caller may grant now', () => {
  const CREATOR = { userId: 'u', name: 'creator', permissions: ['pantheon:keys:*'], grantable: ['docs:read'] };
  const once = { idempotencyKey: 'once' };

  async function created(
    engine: TestEngine,
  ): Promise<{ by: Caller; child: CreatedKey; again: () => Promise<CreatedKey> }> {
    const { key } = await engine.auth.keys.create(CREATOR);
    const by = await callerFor(engine.auth, key);
    const again = () => engine.auth.keys.create(INPUT, { ...once, by });
    return { by, child: await again(), again };
  }

  test('an unchanged child gets a new secret', async () => {
    await using engine = await openTestEngine();
    const { child, again } = await created(engine);
    const repeated = await again();
    expect(repeated.apiKey.id).toBe(child.apiKey.id);
    expect(await engine.auth.verify({ key: repeated.key })).toMatchObject({ valid: true });
  });

  test.each([
    ['permissions', { permissions: ['docs:read', 'billing:pay'] }],
    ['grantable', { grantable: ['billing:*'] }],
    ['rights of managing', { permissions: ['pantheon:tenants:create'] }],
  ])('%s of the child was extended by an administrator: not_grantable', async (_what, wider) => {
    await using engine = await openTestEngine();
    const { child, again } = await created(engine);
    await engine.auth.keys.update(child.apiKey.id, wider);
    expect(await codeOf(again)).toBe('not_grantable');
    expect(await engine.auth.verify({ key: child.key })).toMatchObject({ valid: true });
  });

  test.each(['suspend', 'revoke'] as const)('%s of the child: already_claimed', async (end) => {
    await using engine = await openTestEngine();
    const { child, again } = await created(engine);
    await engine.auth.keys[end](child.apiKey.id);
    expect(await codeOf(again)).toBe('already_claimed');
  });

  test('an inserted idempotency row that names the root key gives no secret', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const written: string[] = [];
    const root = await auth.bootstrap({ read: () => null, write: (key) => void written.push(key) });
    const { key } = await system(auth).create(ADMINISTRATOR);
    const by = await callerFor(auth, key);
    const { id } = (await system(auth).create(INPUT)).apiKey;
    const requests = {
      create: () => system(auth).create(INPUT, { by, idempotencyKey: 'create' }),
      rotate: () => auth.tenant('system').rotation.rotate(id, {}, { by, idempotencyKey: 'rotate' }),
    };
    for (const request of Object.values(requests)) await request();
    await engine.sql('update idempotency set key_id = ?, version = 1', root?.id ?? '');
    for (const [name, request] of Object.entries(requests)) expect(await codeOf(request), name).toBe('already_claimed');
    expect(await auth.verify({ key: written[0] ?? '', tenant: 'system' })).toMatchObject({ valid: true });
  });
});

describe('a caller with limits', () => {
  const RIGHTS = { permissions: ['pantheon:keys:*', 'pantheon:tokens:*'], grantable: ['docs:*'] };
  const LIMITS = [
    ['in time', 'expiresAt', { expiresIn: '1h' }],
    ['in place', 'ipAllowlist', { ipAllowlist: ['192.0.2.0/24'] }],
  ] as const;

  test.each(LIMITS)(
    '%s does not add grants to a key without that limit, and may still rename it',
    async (_how, field, limit) => {
      await using engine = await openTestEngine();
      const { auth } = engine;
      const { key } = await auth.keys.create({ userId: 'u', name: 'limited', ...RIGHTS, ...limit });
      const { id } = (await auth.keys.create({ ...INPUT, grantable: ['docs:read'] })).apiKey;
      const by = await callerFor(auth, key);
      for (const wider of [
        { permissions: ['docs:*'] },
        { permissions: ['docs:read', 'docs:write'] },
        { grantable: ['docs:*'] },
      ])
        expect(await refusalOf(auth.keys.update(id, wider, { by }))).toMatchObject({ code: 'not_grantable', field });
      expect(await auth.keys.update(id, { name: 'renamed' }, { by })).toMatchObject({ name: 'renamed' });
      expect(await auth.keys.update(id, { permissions: [] }, { by })).toMatchObject({ permissions: [] });
    },
  );

  test.each(LIMITS)('%s gets no token of a key without that limit', async (_how, field, limit) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create({ userId: 'u', name: 'limited', ...RIGHTS, ...limit });
    const free = (await auth.keys.create(INPUT)).apiKey;
    const bound = (await auth.keys.create({ ...INPUT, ...limit })).apiKey;
    const by = await callerFor(auth, key);
    const issue = (keyId: string) => auth.tokens.issue({ tenantId: 'default', keyId }, {}, { by });
    expect(await refusalOf(issue(free.id))).toMatchObject({ code: 'not_grantable', field });
    expect(await issue(bound.id)).toMatchObject({ keyId: bound.id });
  });
});

describe('a key may change itself only with its current key string', () => {
  const SELF = {
    userId: 'u',
    name: 'n',
    permissions: ['pantheon:keys:*', 'pantheon:tokens:*'],
    rotation: { overlap: '1h' },
  };

  test('not with an older version that is still accepted', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create(SELF);
    const { key: current } = await auth.rotation.rotate(apiKey.id);
    const by = await callerFor(auth, key);
    expect(await codeOf(auth.rotation.rotateSelf(by, { expectedVersion: 2 }))).toBe('version_conflict');
    expect(await codeOf(auth.rotation.rotate(apiKey.id, { expectedVersion: 2 }, { by }))).toBe('version_conflict');
    expect(await auth.verify({ key: current })).toMatchObject({ valid: true });
    const holder = await callerFor(auth, current);
    expect(await auth.rotation.rotateSelf(holder, { expectedVersion: 2 })).toMatchObject({ apiKey: { version: 3 } });
  });

  test('not with a token', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create(SELF);
    const by = await callerFor(auth, key, 'token');
    const target = { tenantId: 'default', keyId: (await auth.keys.create(INPUT)).apiKey.id };
    expect(await codeOf(auth.rotation.rotateSelf(by))).toBe('not_allowed');
    expect(await codeOf(auth.rotation.rotate(apiKey.id, {}, { by }))).toBe('not_allowed');
    expect(await codeOf(auth.keys.revokeSelf(by))).toBe('not_allowed');
    expect(await codeOf(auth.tokens.issue(target, {}, { by }))).toBe('not_allowed');
    expect(await auth.verify({ key })).toMatchObject({ valid: true, key: { version: 1 } });
  });
});

describe('a token is issued for the key as it is at that moment', () => {
  const ENDS: Readonly<Record<string, (auth: PantheonAuth, id: string) => Promise<unknown>>> = {
    revoked: (auth, id) => auth.keys.revoke(id),
    suspended: (auth, id) => auth.keys.suspend(id),
    version_retired: (auth, id) => auth.rotation.rotate(id, { overlap: 0 }),
  };

  test.each(Object.entries(ENDS))(
    '%s between verification and issue: no token, and no denial that has consumed units (I8)',
    async (code, end) => {
      await using engine = await openTestEngine();
      const { auth } = engine;
      const { key, apiKey } = await auth.keys.create(INPUT);
      const verify = KeyValidator.prototype.verify;
      // The moment cannot be hit from outside.
      const spy = vi.spyOn(KeyValidator.prototype, 'verify').mockImplementationOnce(async function (
        this: KeyValidator,
        request,
      ) {
        const verification = await verify.call(this, request);
        expect(verification.valid).toBe(true);
        await end(auth, apiKey.id);
        return verification;
      });
      try {
        expect(await refusalOf(auth.tokens.exchange({ key }))).toMatchObject({ code: 'store_unavailable' });
        // Asked again, it is told.
        expect(await auth.tokens.exchange({ key })).toMatchObject({
          issued: false,
          verification: { valid: false, denial: { code }, secretVerified: true, keyId: apiKey.id },
        });
      } finally {
        spy.mockRestore();
      }
    },
  );

  test('a token of an overlapped version ends with the overlap', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create(INPUT);
    const { previous } = await auth.rotation.rotate(apiKey.id, { overlap: '60s' });
    const exchange = await auth.tokens.exchange({ key });
    if (!exchange.issued) throw new Error('not issued');
    const { token, expiresAt } = exchange.token;
    expect(expiresAt).toBe(previous.acceptedUntil.getTime());
    const { exp } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { exp: number };
    expect(exp * 1_000).toBe(expiresAt);
    clock.advance(59_999);
    expect(await auth.tokens.verify({ token })).toMatchObject({ valid: true });
    clock.advance(1);
    expect(await auth.tokens.verify({ token })).toMatchObject({ valid: false });
  });

  test('a node whose clock is behind does not accept an expired token', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create(INPUT);
    const target = { tenantId: 'default', keyId: apiKey.id };
    const exchange = await auth.tokens.exchange({ key });
    if (!exchange.issued) throw new Error('not issued');
    const { token } = exchange.token;
    clock.advance(10_000);
    await auth.tokens.revokeAllOf(target);
    clock.setWall(clock.now() - MINUTE_MS);
    const behind = await engine.openAgain();
    await behind.tokens.revokeAllOf(target);
    for (const one of [auth, behind]) expect(await one.tokens.verify({ token })).toMatchObject({ valid: false });
    clock.setWall(clock.now() + MINUTE_MS);
    for (const one of [auth, behind])
      expect(await one.tokens.verify({ token })).toMatchObject({ valid: false, denial: { code: 'revoked' } });
  });
});

describe('of two administrators that revoke each other at the same moment one remains', () => {
  test.each(['in one process', 'over two instances'])('%s', async (where) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const other = where === 'in one process' ? auth : await engine.openAgain();
    let left = (await system(auth).create(ADMINISTRATOR)).apiKey.id;
    for (let delay = 0; delay < 100; delay += 10) {
      const right = (await system(auth).create(ADMINISTRATOR)).apiKey.id;
      const revoking = [
        system(auth).revoke(left),
        (async () => {
          for (let step = 0; step < delay; step += 1) await null;
          return await system(other).revoke(right);
        })(),
      ];
      const settled = await Promise.allSettled(revoking);
      const refused = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
      expect(refused, `${delay} steps apart`).toMatchObject([{ code: 'last_administrator' }]);
      const { items } = await system(auth).list({ state: 'active' });
      expect(items).toHaveLength(1);
      left = items[0]?.id ?? '';
    }
  });

  test('each with its own key', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const other = await engine.openAgain();
    const [one, two] = [await system(auth).create(ADMINISTRATOR), await system(auth).create(ADMINISTRATOR)];
    const [byOne, byTwo] = [await callerFor(auth, one.key), await callerFor(other, two.key)];
    const settled = await Promise.allSettled([
      system(auth).revoke(two.apiKey.id, { by: byOne }),
      system(other).revoke(one.apiKey.id, { by: byTwo }),
    ]);
    const refused = settled.flatMap((end) => (end.status === 'rejected' ? [end.reason.code] : []));
    expect(refused).toHaveLength(1);
    expect(['revoked', 'last_administrator']).toContain(refused[0]);
    expect((await system(auth).list({ state: 'active' })).items).toHaveLength(1);
  });
});
