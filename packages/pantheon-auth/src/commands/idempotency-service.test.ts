import { describe, expect, test } from 'vitest';
import { callerFor, keyAndCaller } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine } from '../../test/test-engine.ts';
import type { Rotation } from '../api-keys/key-rotation.ts';
import type { Caller } from '../domain/key-policy.ts';
import { DAY_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { PantheonAuth } from '../pantheon-auth.ts';
import { TestClock } from '../testing/test-clock.ts';
import { CommandReads } from './command-reads.ts';
import type { IdempotencyRows } from './idempotency-rows.ts';
import { ANSWER_KEPT_MS, IdempotencyService } from './idempotency-service.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };
const once = { idempotencyKey: 'request-1' };

describe('a repeated request', () => {
  test('replaces the secret of the lost answer: one key, and only the last string is accepted', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const first = await auth.keys.create(INPUT, once);
    const second = await auth.keys.create(INPUT, once);
    const third = await auth.keys.create(INPUT, once);
    expect(second.apiKey).toMatchObject({ id: first.apiKey.id, version: 1, name: 'n' });
    expect(new Set([first.key, second.key, third.key]).size).toBe(3);
    expect((await auth.keys.list()).items).toHaveLength(1);
    for (const { key } of [first, second])
      expect(await auth.verify({ key })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
    expect(await auth.verify({ key: third.key })).toMatchObject({ valid: true });
    const { items } = await auth.events.list('default', { subjectType: 'key' });
    expect(items.map(({ type }) => type)).toEqual(['key.secret_replaced', 'key.secret_replaced', 'key.created']);
  });

  test('is refused once the key was used, also after a restart', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create(INPUT, once);
    await auth.verify({ key, cost: 0 });
    expect((await refusalOf(auth.keys.create(INPUT, once))).code).toBe('already_claimed');
    await auth.close();
    const again = await engine.openAgain();
    expect((await refusalOf(again.keys.create(INPUT, once))).code).toBe('already_claimed');
    expect(await again.verify({ key })).toMatchObject({ valid: true });
  });

  test('is refused once the key has another version or is revoked', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT, once);
    await auth.rotation.rotate(apiKey.id);
    expect((await refusalOf(auth.keys.create(INPUT, once))).code).toBe('already_claimed');
    const other = await auth.keys.create(INPUT, { idempotencyKey: 'request-2' });
    await auth.keys.revoke(other.apiKey.id);
    expect((await refusalOf(auth.keys.create(INPUT, { idempotencyKey: 'request-2' }))).code).toBe('already_claimed');
  });

  test('with another body is an error', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT, once);
    expect((await refusalOf(auth.keys.create({ ...INPUT, name: 'other' }, once))).code).toBe('idempotency_mismatch');
    expect((await refusalOf(auth.rotation.rotate(apiKey.id, {}, once))).code).toBe('idempotency_mismatch');
    // The same body, spelled in another order, is the same.
    const reordered = { permissions: ['docs:read'], name: 'n', userId: 'u' };
    expect((await auth.keys.create(reordered, once)).apiKey.id).toBe(apiKey.id);
  });

  test('of another caller or tenant is a different request', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    const ADMIN = { permissions: ['pantheon:*'], grantable: ['*'] };
    const callers = [
      await keyAndCaller(engine, 'default', ADMIN),
      await keyAndCaller(engine, 'default', ADMIN),
    ] as const;
    const made = [
      await auth.keys.create(INPUT, once),
      await auth.keys.create(INPUT, { ...once, by: callers[0].by }),
      await auth.keys.create(INPUT, { ...once, by: callers[1].by }),
      await auth.tenant('acme').keys.create(INPUT, once),
    ];
    expect(new Set(made.map(({ apiKey }) => apiKey.id)).size).toBe(4);
  });

  test('at the same moment, in several processes, creates one key', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const made = await Promise.all(
      [engine.auth, other, engine.auth, other].map((auth) => auth.keys.create(INPUT, once)),
    );
    expect(new Set(made.map(({ apiKey }) => apiKey.id)).size).toBe(1);
    expect((await other.keys.list()).items).toHaveLength(1);
    const answers = await Promise.all(made.map(({ key }) => other.verify({ key })));
    expect(answers.filter(({ valid }) => valid)).toHaveLength(1);
  });

  test('is not recognized after its time, and then creates another key', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const first = await auth.keys.create(INPUT, once);
    clock.advance(ANSWER_KEPT_MS);
    expect((await auth.keys.create(INPUT, once)).apiKey.id).toBe(first.apiKey.id);
    clock.advance(2 * DAY_MS);
    expect((await auth.keys.create(INPUT, once)).apiKey.id).not.toBe(first.apiKey.id);
  });

  test('leaves neither its content nor a secret in its record (I1)', async () => {
    await using engine = await openTestEngine();
    const { key } = await engine.auth.keys.create(
      { ...INPUT, name: 'VeryPrivateName' },
      { idempotencyKey: 'SeenOnTheWire' },
    );
    const rows = JSON.stringify(await engine.sql('select * from idempotency'));
    for (const part of [key.slice(25, 68), 'VeryPrivateName', 'SeenOnTheWire']) expect(rows).not.toContain(part);
  });

  test('that fails leaves no record', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    await auth.tenants.suspend('acme');
    const { keys } = auth.tenant('acme');
    expect((await refusalOf(keys.create(INPUT, once))).code).toBe('not_allowed');
    await auth.tenants.resume('acme');
    expect((await keys.create(INPUT, once)).apiKey.tenantId).toBe('acme');
  });

  test.each(['', ' ', 'a b', 'ü', 'a\n', 'x'.repeat(256)])(
    'needs a key that is valid in a header: %j',
    async (text) => {
      await using engine = await openTestEngine();
      expect(await refusalOf(engine.auth.keys.create(INPUT, { idempotencyKey: text }))).toMatchObject({
        code: 'invalid_request',
        field: 'Idempotency-Key',
      });
    },
  );
});

describe('a repeated rotation', () => {
  test('is the same rotation with a new secret, and answers again until when the older version is accepted', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create(INPUT);
    const first = await auth.rotation.rotate(apiKey.id, { overlap: '1h' }, once);
    clock.advance(60_000);
    const second = await auth.rotation.rotate(apiKey.id, { overlap: '1h' }, once);
    expect(second.apiKey).toMatchObject({ id: apiKey.id, version: 2 });
    expect(second.previous).toEqual(first.previous);
    expect(second.key).not.toBe(first.key);
    expect(await auth.verify({ key: first.key })).toMatchObject({ valid: false });
    for (const one of [key, second.key]) expect(await auth.verify({ key: one })).toMatchObject({ valid: true });
    expect((await refusalOf(auth.rotation.rotate(apiKey.id, { overlap: '1h' }, once))).code).toBe('already_claimed');
  });

  test('at the same moment, in several processes, adds one version and fails for no caller', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const { apiKey } = await engine.auth.keys.create(INPUT);
    const rotations = await Promise.all(
      [engine.auth, other, engine.auth].map(({ rotation }) => rotation.rotate(apiKey.id, {}, once)),
    );
    expect(rotations.map(({ apiKey: { version } }) => version)).toEqual([2, 2, 2]);
    const answers = await Promise.all(rotations.map(({ key }) => other.verify({ key })));
    expect(answers.filter(({ valid }) => valid)).toHaveLength(1);
  });
});

describe('a rotation by the holder whose answer was lost', () => {
  const SELF = { ...INPUT, permissions: ['pantheon:keys:rotate'], rotation: { overlap: '1h' } };
  type Rotate = (auth: PantheonAuth, by: Caller, id: string, key?: string) => Promise<Rotation>;
  const WAYS: Readonly<Record<string, Rotate>> = {
    'self/rotate': (auth, by, _id, idempotencyKey) =>
      auth.rotation.rotateSelf(by, { overlap: '30m' }, idempotencyKey === undefined ? {} : { idempotencyKey }),
    'rotate, with the permission': (auth, by, id, idempotencyKey) =>
      auth.rotation.rotate(id, { overlap: '30m' }, { ...(idempotencyKey !== undefined && { idempotencyKey }), by }),
  };

  test.each(Object.entries(WAYS))(
    '%s: repeated with the string that the holder has, it gets another secret',
    async (_way, rotate) => {
      await using engine = await openTestEngine();
      const { auth } = engine;
      const { key, apiKey } = await auth.keys.create(SELF);
      const by = await callerFor(auth, key);
      const lost = await rotate(auth, by, apiKey.id, 'once');
      const again = await rotate(auth, await callerFor(auth, key), apiKey.id, 'once');
      expect(again).toMatchObject({ apiKey: { version: 2 }, previous: lost.previous });
      // The first answer may have been read by somebody else on its way.
      expect(await auth.verify({ key: lost.key })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
      expect(await auth.verify({ key: again.key })).toMatchObject({ valid: true, key: { version: 2 } });
      expect(await auth.verify({ key })).toMatchObject({ valid: true, key: { version: 1 } });
      // It is used now: whoever has the old string and the Idempotency-Key gets nothing more.
      expect((await refusalOf(rotate(auth, by, apiKey.id, 'once'))).code).toBe('already_claimed');
      const current = await callerFor(auth, again.key);
      expect((await refusalOf(rotate(auth, current, apiKey.id, 'once'))).code).toMatch(
        /^(already_claimed|version_conflict)$/,
      );
      expect(await auth.keys.versions(apiKey.id)).toHaveLength(2);
    },
  );

  test.each(Object.entries(WAYS))('%s: the old string alone gets nothing', async (_way, rotate) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create(SELF);
    const by = await callerFor(auth, key);
    const byToken = await callerFor(auth, key, 'token');
    const { key: current } = await rotate(auth, by, apiKey.id, 'once');
    for (const guess of [undefined, 'another', 'ONCE', 'once '])
      expect((await refusalOf(rotate(auth, by, apiKey.id, guess))).code).toMatch(
        /^(version_conflict|invalid_request)$/,
      );
    expect((await refusalOf(rotate(auth, byToken, apiKey.id, 'once'))).code).toBe('not_allowed');
    expect(await auth.verify({ key: current })).toMatchObject({ valid: true, key: { version: 2 } });
  });

  test('is refused with another body or an even older string, and after the overlap', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key: oldest, apiKey } = await auth.keys.create(SELF);
    const byOldest = await callerFor(auth, oldest);
    const { key } = await auth.rotation.rotate(apiKey.id, { overlap: '1h' });
    const by = await callerFor(auth, key);
    const lost = { idempotencyKey: 'once' };
    await auth.rotation.rotateSelf(by, { expectedVersion: 2 }, lost);
    expect((await refusalOf(auth.rotation.rotateSelf(by, {}, lost))).code).toBe('idempotency_mismatch');
    expect((await refusalOf(auth.rotation.rotateSelf(byOldest, { expectedVersion: 2 }, lost))).code).toBe(
      'version_retired',
    );
    expect(await auth.rotation.rotateSelf(by, { expectedVersion: 2 }, lost)).toMatchObject({ apiKey: { version: 3 } });
    clock.advance(60 * 60_000);
    expect((await refusalOf(auth.rotation.rotateSelf(by, { expectedVersion: 2 }, lost))).code).toBe('version_retired');
  });
});

describe('a request that meets a conflict', () => {
  /** The moment cannot be hit from outside: another one with the same key is answered between the look and the change. */
  async function meeting(
    code: 'rotation_in_progress' | 'version_conflict' | 'conflict' | 'not_grantable',
    isAnswered: boolean,
  ) {
    const answers = [null, isAnswered ? { ...REQUEST, keyId: 'KeyKeyKeyKeyKeyK', version: 2, createdAt: 0 } : null];
    const rows = { find: async () => answers.shift() ?? null, prune: async () => 0 } as unknown as IdempotencyRows;
    const answered = new IdempotencyService({
      rows,
      reads: new CommandReads({ ordinary: 1, protective: 1 }, new TestClock()),
      clock: new TestClock(),
    });
    return answered.run(REQUEST, {
      execute: () => Promise.reject(new PantheonError(code)),
      again: async ({ version }) => ({ version }),
    });
  }
  const REQUEST = {
    tenantId: 'default',
    caller: 'process',
    idempotencyKey: 'a',
    requestHash: 'b',
    keyId: 'KeyKeyKeyKeyKeyK',
    reader: { group: 'default', member: 'process' },
  };

  test.each(['rotation_in_progress', 'version_conflict', 'conflict'] as const)(
    '%s, because the same request was faster, is answered as a repeated request',
    async (code) => {
      expect(await refusalOrValue(meeting(code, true))).toEqual({ version: 2 });
    },
  );

  test('with another caller is told so, and other refusals too', async () => {
    expect(await refusalOrValue(meeting('rotation_in_progress', false))).toBe('rotation_in_progress');
    expect(await refusalOrValue(meeting('not_grantable', true))).toBe('not_grantable');
  });
});

async function refusalOrValue(work: Promise<unknown>): Promise<unknown> {
  return await work.catch((error: unknown) => (error instanceof PantheonError ? error.code : error));
}
