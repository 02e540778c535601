import { describe, expect, test } from 'vitest';
import { callerWith } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { DAY_MS, HOUR_MS } from '../foundation/clock.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

async function made(engine: TestEngine, input: object = {}) {
  const { key, apiKey } = await engine.auth.keys.create({ ...INPUT, ...input });
  return { id: apiKey.id, key, by: callerWith({ apiKey, permissions: [], grantable: [] }) };
}

const answerOf = async (engine: TestEngine, key: string): Promise<string> => {
  const verification = await engine.auth.verify({ key });
  return verification.valid ? `v${verification.key.version}` : verification.denial.code;
};

describe('the overlap', () => {
  test('both versions are accepted until it ends, to the millisecond, and then the older one is denied with its reason', async () => {
    await using engine = await openTestEngine();
    const { id, key } = await made(engine);
    const rotation = await engine.auth.rotation.rotate(id, { overlap: '1h' });
    expect(rotation).toMatchObject({ apiKey: { id, version: 2 }, previous: { version: 1 } });
    expect(rotation.previous.acceptedUntil.getTime()).toBe(engine.clock.now() + HOUR_MS);
    expect(rotation.key.slice(0, 25)).toBe(key.slice(0, 25));
    expect([await answerOf(engine, key), await answerOf(engine, rotation.key)]).toEqual(['v1', 'v2']);
    engine.clock.advance(HOUR_MS - 1);
    expect(await answerOf(engine, key)).toBe('v1');
    engine.clock.advance(1);
    expect([await answerOf(engine, key), await answerOf(engine, rotation.key)]).toEqual(['version_retired', 'v2']);
  });

  test('is the requested one, otherwise that of the policy, otherwise a day', async () => {
    await using engine = await openTestEngine();
    const lengthOf = async (input: object, asked: object): Promise<number> => {
      const { id } = await made(engine, input);
      return (await engine.auth.rotation.rotate(id, asked)).previous.acceptedUntil.getTime() - engine.clock.now();
    };
    expect(await lengthOf({}, {})).toBe(DAY_MS);
    expect(await lengthOf({ rotation: { overlap: '2h' } }, {})).toBe(2 * HOUR_MS);
    expect(await lengthOf({ rotation: { overlap: '2h' } }, { overlap: '3h' })).toBe(3 * HOUR_MS);
    expect(await lengthOf({}, { overlap: 0 })).toBe(0);
    expect(await lengthOf({ expiresIn: '30m' }, { overlap: '3h' })).toBe(HOUR_MS / 2);
  });

  test('of zero retires the older version at once', async () => {
    await using engine = await openTestEngine();
    const { id, key } = await made(engine);
    await engine.auth.rotation.rotate(id, { overlap: 0 });
    expect(await answerOf(engine, key)).toBe('version_retired');
  });

  test('that is invalid is refused with its field', async () => {
    await using engine = await openTestEngine();
    const { id } = await made(engine);
    for (const overlap of ['31d', -1, 'soon'])
      expect(await refusalOf(engine.auth.rotation.rotate(id, { overlap }))).toMatchObject({ field: 'overlap' });
  });

  test('while an older version is accepted, only a caller that names the current one rotates, and that retires the older one', async () => {
    await using engine = await openTestEngine();
    const { rotation } = engine.auth;
    const { id, key } = await made(engine);
    const second = await rotation.rotate(id);
    expect((await refusalOf(rotation.rotate(id))).code).toBe('rotation_in_progress');
    expect((await refusalOf(rotation.rotate(id, { expectedVersion: 1 }))).code).toBe('version_conflict');
    const third = await rotation.rotate(id, { expectedVersion: 2 });
    expect([
      await answerOf(engine, key),
      await answerOf(engine, second.key),
      await answerOf(engine, third.key),
    ]).toEqual(['version_retired', 'v2', 'v3']);
  });

  test('a suspended, expired or revoked key gets no new secret, so that none becomes valid later', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { rotation, tenants } = auth;
    const once = { idempotencyKey: 'once' };
    const { id, key } = await made(engine, { expiresIn: '1h', rotation: {} });
    await rotation.rotate(id, { overlap: '2s' }, once);
    engine.clock.advance(2_000);
    const attempts = [() => rotation.rotate(id), () => rotation.rotate(id, { overlap: '2s' }, once)];
    const codes = async (): Promise<string[]> => {
      const all = [];
      for (const attempt of attempts) all.push((await refusalOf(attempt)).code);
      return all;
    };
    await auth.keys.suspend(id);
    expect(await codes()).toEqual(['key_suspended', 'already_claimed']);
    await auth.keys.resume(id);
    await tenants.suspend('default');
    expect(await codes()).toEqual(['not_allowed', 'not_allowed']);
    await tenants.resume('default');
    engine.clock.advance(HOUR_MS);
    expect(await codes()).toEqual(['key_expired', 'key_expired']);
    expect(await auth.keys.versions(id)).toHaveLength(2);
    await auth.keys.update(id, { expiresAt: null });
    expect(await rotation.rotate(id, {})).toMatchObject({ apiKey: { version: 3 } });
    await auth.keys.revoke(id);
    expect(await codes()).toEqual(['key_revoked', 'already_claimed']);
    expect(await answerOf(engine, key)).toBe('revoked');
  });

  test('no key gets a new secret in a deleted tenant', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    const { keys, rotation } = auth.tenant('acme');
    const { apiKey } = await keys.create(INPUT);
    await auth.tenants.delete('acme');
    expect((await refusalOf(rotation.rotate(apiKey.id))).code).toBe('not_found');
  });

  test('an older version of a key that is not valid can be retired: that only removes access', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, key } = await made(engine);
    await auth.rotation.rotate(id, { overlap: '1h' });
    await auth.keys.suspend(id);
    expect(await auth.rotation.retire(id, 1)).toMatchObject({ state: 'retired' });
    await auth.keys.resume(id);
    expect(await answerOf(engine, key)).toBe('version_retired');
    await auth.keys.revoke(id);
    expect((await refusalOf(auth.rotation.retire(id, 1))).code).toBe('key_revoked');
  });

  test('the oldest versions are deleted: their number is bounded', async () => {
    await using engine = await openTestEngine();
    const { id, key } = await made(engine);
    for (let version = 1; version <= 9; version += 1)
      await engine.auth.rotation.rotate(id, { expectedVersion: version, overlap: 0 });
    expect(await engine.auth.keys.versions(id)).toHaveLength(8);
    expect(await answerOf(engine, key)).toBe('unknown');
    expect((await refusalOf(engine.auth.rotation.retire(id, 1))).code).toBe('not_found');
  });
});

describe('at the same moment', () => {
  test('of many rotations one is made, and the others get conflict', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const { id } = await made(engine);
    const rotations = [engine.auth, other, engine.auth, other].map(({ rotation }) => rotation.rotate(id));
    const outcomes = await Promise.allSettled(rotations);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(['conflict', 'rotation_in_progress']).toContain(outcome.reason.code);
    expect(await engine.auth.keys.get(id)).toMatchObject({ version: 2 });
  });

  test('of a rotation and a revocation, the revocation holds in either order', async () => {
    await using engine = await openTestEngine();
    for (let n = 0; n < 10; n += 1) {
      const { id, key } = await made(engine);
      const calls = [() => engine.auth.rotation.rotate(id), () => engine.auth.keys.revoke(id)];
      const outcomes = await Promise.allSettled((n % 2 === 0 ? calls : calls.toReversed()).map((call) => call()));
      expect(await engine.auth.keys.get(id)).toMatchObject({ state: 'revoked' });
      const keys = outcomes.flatMap((one) => (one.status === 'fulfilled' && 'key' in one.value ? [one.value.key] : []));
      for (const one of [key, ...keys]) expect(await answerOf(engine, one)).toBe('revoked');
    }
  });

  test('retiring is retried when the key is changed in the meantime', async () => {
    await using engine = await openTestEngine();
    const { id, key } = await made(engine);
    await engine.auth.rotation.rotate(id);
    const outcomes = await Promise.allSettled([
      engine.auth.rotation.retire(id, 1, { reason: 'seen in a log' }),
      ...['a', 'b'].map((name) => engine.auth.keys.update(id, { name })),
      engine.auth.rotation.retire(id, 1),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'fulfilled']);
    expect(await answerOf(engine, key)).toBe('version_retired');
    const { items } = await engine.auth.events.list('default', { type: 'key.version_retired' });
    expect(items).toHaveLength(1);
  });
});

describe('retiring', () => {
  test('ends an older version before its overlap has passed, once; the current one cannot be retired', async () => {
    await using engine = await openTestEngine();
    const { id, key } = await made(engine);
    const { key: next } = await engine.auth.rotation.rotate(id);
    expect(await engine.auth.rotation.retire(id, 1)).toMatchObject({
      version: 1,
      state: 'retired',
      acceptedUntil: new Date(engine.clock.now()),
    });
    expect([await answerOf(engine, key), await answerOf(engine, next)]).toEqual(['version_retired', 'v2']);
    expect((await refusalOf(engine.auth.rotation.retire(id, 2))).code).toBe('version_conflict');
    expect((await refusalOf(engine.auth.rotation.retire(id, 3))).field).toBe('version');
    expect((await refusalOf(engine.auth.rotation.retire('NeverMadeNeverMa', 1))).code).toBe('not_found');
  });
});

describe('by the holder', () => {
  test('only if its policy has a rotation, and with no longer overlap than the policy says', async () => {
    await using engine = await openTestEngine();
    const { rotation } = engine.auth;
    const without = await made(engine);
    expect((await refusalOf(rotation.rotateSelf(without.by))).code).toBe('not_allowed');
    const { id, key, by } = await made(engine, { rotation: { overlap: '1h' } });
    const made2 = await rotation.rotateSelf(by, { overlap: '5h' });
    expect(made2.apiKey.id).toBe(id);
    expect(made2.previous.acceptedUntil.getTime()).toBe(engine.clock.now() + HOUR_MS);
    expect([await answerOf(engine, key), await answerOf(engine, made2.key)]).toEqual(['v1', 'v2']);
    const { items } = await engine.auth.events.list('default', { type: 'key.rotated' });
    expect(items).toMatchObject([{ actor: { keyId: id } }]);
  });

  test('a holder in another tenant gets not_found', async () => {
    await using engine = await openTestEngine();
    const { by } = await made(engine, { rotation: { overlap: '1h' } });
    await engine.auth.tenants.create({ id: 'acme' });
    expect((await refusalOf(engine.auth.tenant('acme').rotation.rotateSelf(by))).code).toBe('not_found');
  });
});
