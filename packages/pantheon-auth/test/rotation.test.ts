/** Rotation of keys: by a schedule, with the holder or for a recipient; rolled back; and ended with the first use. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { compactDecrypt } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import { CommandReads } from '../src/commands/command-reads.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../src/foundation/clock.ts';
import { callerOf } from '../src/middleware.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { SqlUsageRows } from '../src/storage/rows/sql-usage-rows.ts';
import { until } from './passing-time.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

vi.setConfig({ testTimeout: 60_000 });

/** Nothing more is announced or done about the key, although the job looks at it. */
async function stays(engine: TestEngine, keyId: string, events: readonly string[]): Promise<void> {
  for (let seconds = 0; seconds < 20; seconds += 1) {
    engine.clock.advance(SECOND_MS);
    await engine.auth.ping();
  }
  expect(await rotationEvents(engine.auth, keyId)).toEqual(events);
}

const happened = (engine: TestEngine, keyId: string, ...events: string[]): Promise<void> =>
  until(engine, async () => expect(await rotationEvents(engine.auth, keyId)).toEqual(events));

const usesStored = (engine: TestEngine, keyId: string, version: number): Promise<void> =>
  until(engine, async () => {
    const rows = await engine.sql('select * from version_usage where key_id = ? and version = ?', keyId, version);
    expect(rows).toHaveLength(1);
  });

async function rotationEvents(auth: PantheonAuth, keyId: string): Promise<readonly string[]> {
  const { items } = await auth.events.list('default', { subjectId: keyId, limit: 100 });
  return items
    .map((event) => event.type)
    .filter((type) => type !== 'key.created')
    .toReversed();
}

const request = (key: string) => ({
  url: '/v1/self/next',
  header: (name: string) => (name === 'x-api-key' ? [key] : []),
  address: '203.0.113.7',
  userAgent: null,
});

const X25519 = () => generateKeyPairSync('x25519');

async function opened(jwe: string, privateKey: KeyObject): Promise<string> {
  const { plaintext } = await compactDecrypt(jwe, privateKey);
  return Buffer.from(plaintext).toString('utf8');
}

describe('for a recipient', () => {
  test('the service rotates, and a holder that slept through rotation and overlap gets its next secret with the old string', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { publicKey, privateKey } = X25519();
    const recipientJwk = publicKey.export({ format: 'jwk' });
    const { key, apiKey } = await auth.keys.create({
      userId: 'u',
      name: 'k',
      rotation: { every: '30d', overlap: '1h', recipientJwk },
    });
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    await usesStored(engine, apiKey.id, 1);
    expect(await auth.nextSecret(request(key))).toMatchObject({ found: false, refusal: { status: 404 } });

    clock.advance(30 * DAY_MS);
    await happened(engine, apiKey.id, 'key.rotated');
    expect(await auth.keys.get(apiKey.id)).toMatchObject({ version: 2, rotation: { state: 'scheduled' } });
    const overlap = await auth.authenticate(request(key));
    expect(overlap).toMatchObject({ authenticated: true });
    if (!overlap.authenticated) return;
    expect(overlap.headers['pantheon-rotation']).toMatch(/^superseded;version=2;before=@\d+$/);

    clock.advance(2 * HOUR_MS);
    expect(await auth.verify({ key })).toMatchObject({ valid: false, denial: { code: 'version_retired' } });
    const answer = await auth.nextSecret(request(key));
    if (!answer.found) throw new Error(answer.refusal.code);
    expect(answer.next).toMatchObject({ version: 2 });
    const next = await opened(answer.next.jwe, privateKey);
    expect(await engine.stored()).not.toContain(next);
    expect(await auth.verify({ key: next })).toMatchObject({ valid: true, key: { version: 2, rotation: null } });

    // The first use of the new version ends the encrypted copy.
    expect(await auth.nextSecret(request(key))).toMatchObject({ found: false, refusal: { status: 404 } });
    await happened(engine, apiKey.id, 'key.rotated', 'key.rotation_completed');
    expect(await engine.sql('select * from next_secrets')).toEqual([]);
    const { items } = await auth.events.list('default', { type: 'key.rotated' });
    expect(items).toMatchObject([{ actor: { keyId: null, job: 'key-schedule' } }]);
  });

  test('it is not rotated while nobody has used the current version: that is announced once, and made up for with the first use', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const recipientJwk = X25519().publicKey.export({ format: 'jwk' });
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', rotation: { every: '1d', recipientJwk } });
    clock.advance(DAY_MS);
    await happened(engine, apiKey.id, 'key.rotation_overdue');
    clock.advance(DAY_MS);
    await stays(engine, apiKey.id, ['key.rotation_overdue']);
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    await happened(engine, apiKey.id, 'key.rotation_overdue', 'key.rotated');
  });

  test('another recipient, a rotation by hand and a version that is ended by hand each end the encrypted copy', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const recipientJwk = X25519().publicKey.export({ format: 'jwk' });
    const rotated = async () => {
      const created = await auth.keys.create({ userId: 'u', name: 'k', rotation: { every: '1d', recipientJwk } });
      await auth.verify({ key: created.key });
      await usesStored(engine, created.apiKey.id, 1);
      clock.advance(DAY_MS);
      await until(engine, async () => expect(await waiting(created.apiKey.id)).toHaveLength(1));
      expect(await auth.nextSecret(request(created.key))).toMatchObject({ found: true });
      return created;
    };
    const waiting = (keyId: string) => engine.sql('select * from next_secrets where key_id = ?', keyId);
    const one = await rotated();
    await auth.keys.update(one.apiKey.id, { name: 'renamed' });
    expect(await waiting(one.apiKey.id)).toHaveLength(1);
    await auth.keys.update(one.apiKey.id, { rotation: { recipientJwk: X25519().publicKey.export({ format: 'jwk' }) } });
    expect(await waiting(one.apiKey.id)).toEqual([]);
    const two = await rotated();
    await auth.rotation.rotate(two.apiKey.id, { expectedVersion: 2 });
    expect(await waiting(two.apiKey.id)).toEqual([]);
    const three = await rotated();
    await auth.rotation.retire(three.apiKey.id, 1);
    expect(await waiting(three.apiKey.id)).toEqual([]);
    expect(await auth.nextSecret(request(three.key))).toMatchObject({ found: false, refusal: { status: 404 } });
    const four = await rotated();
    await auth.keys.revoke(four.apiKey.id);
    expect(await waiting(four.apiKey.id)).toEqual([]);
    expect(await auth.nextSecret(request(four.key))).toMatchObject({ found: false, refusal: { code: 'revoked' } });
  });
});

describe('by the holder', () => {
  test('the window is announced, reminded of and opened again, on the key, in events and in a header, until it is claimed', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({
      userId: 'u',
      name: 'k',
      rotation: { every: '30d', overlap: '1d', window: '4d' },
    });
    const header = async (presented: string): Promise<string | undefined> => {
      const answer = await auth.authenticate(request(presented));
      return answer.authenticated ? answer.headers['pantheon-rotation'] : answer.refusal.code;
    };
    expect(await header(key)).toBeUndefined();
    clock.advance(30 * DAY_MS);
    const dueAt = apiKey.createdAt.getTime() + 30 * DAY_MS;
    const { id } = apiKey;
    await happened(engine, id, 'key.rotation_due');
    expect(await header(key)).toBe(`due;version=1;before=@${Math.floor((dueAt + 4 * DAY_MS) / SECOND_MS)}`);
    expect((await auth.keys.get(apiKey.id)).rotation).toMatchObject({ state: 'due', dueAt: new Date(dueAt) });
    clock.advance(2 * DAY_MS);
    await happened(engine, id, 'key.rotation_due', 'key.rotation_reminded');
    clock.advance(2 * DAY_MS);
    await happened(engine, id, 'key.rotation_due', 'key.rotation_reminded', 'key.rotation_overdue');
    expect(await header(key)).toBe(`overdue;version=1;before=@${Math.floor((dueAt + 12 * DAY_MS) / SECOND_MS)}`);
    const answer = await auth.authenticate(request(key));
    if (!answer.authenticated) throw new Error(answer.refusal.code);
    const by = callerOf(answer.principal, { address: null, userAgent: null, requestId: null });
    const claimed = await auth.rotation.rotateSelf(by);
    expect(await header(claimed.key)).toBeUndefined();
    expect(await header(key)).toMatch(/^superseded;version=2/);
    clock.advance(2 * DAY_MS);
    await engine.propagate();
    expect(await header(key)).toBe('version_retired');
  });

  test('where the policy says so, a key whose window passes expires', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const rotation = { every: '30d', window: '1d', onMissed: 'expire' } as const;
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', rotation });
    clock.advance(30 * DAY_MS);
    await happened(engine, apiKey.id, 'key.rotation_due');
    expect(await auth.verify({ key })).toMatchObject({ valid: true, key: { rotation: { state: 'due' } } });
    clock.advance(DAY_MS);
    await happened(engine, apiKey.id, 'key.rotation_due', 'key.updated');
    expect(await auth.verify({ key })).toMatchObject({ valid: false, denial: { code: 'expired' } });
    clock.advance(10 * DAY_MS);
    await until(engine, async () =>
      expect(await engine.sql('select * from key_schedules where look_at is not null')).toEqual([]),
    );
    await stays(engine, apiKey.id, ['key.rotation_due', 'key.updated']);
  });
});

describe('a rotation that is rolled back', () => {
  test('the version before it is current again on every node, and the rolled-back one and its tokens are refused for ever', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const other = await engine.openAgain();
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k' });
    const rotated = await auth.rotation.rotate(apiKey.id, { overlap: '1h' });
    const token = await auth.tokens.exchange({ key: rotated.key });
    if (!token.issued) throw new Error('a token');
    // The exchange was a use of it.
    await expect(auth.rotation.rollBack(apiKey.id)).rejects.toMatchObject({ code: 'version_in_use' });
    const back = await auth.rotation.rollBack(apiKey.id, { force: true, reason: 'the new one was lost' });
    expect(back).toMatchObject({ id: apiKey.id, version: 1 });
    await engine.propagate();
    for (const node of [auth, other]) {
      expect(await node.verify({ key })).toMatchObject({ valid: true, key: { version: 1, rotation: null } });
      expect(await node.verify({ key: rotated.key })).toMatchObject({ denial: { code: 'version_retired' } });
      expect(await node.tokens.verify({ token: token.token.token })).toMatchObject({ valid: false });
    }
    const { items } = await auth.events.list('default', { type: 'key.rolled_back' });
    expect(items).toMatchObject([{ before: { version: 2 }, after: { version: 1 }, reason: 'the new one was lost' }]);
    expect(await auth.keys.versions(apiKey.id)).toMatchObject([
      { version: 2, state: 'retired' },
      { version: 1, state: 'current' },
    ]);
    // Read back from the database, it is whole; its next version has a number of its own.
    expect((await other.rotation.rotate(apiKey.id)).apiKey.version).toBe(3);
    expect(await auth.keys.versions(apiKey.id)).toMatchObject([
      { version: 3, state: 'current' },
      { version: 2, state: 'retired' },
      { version: 1, state: 'accepted' },
    ]);
  });

  test('the rotation is not made again by repeating its request', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create({ userId: 'u', name: 'k' });
    await auth.rotation.rotate(apiKey.id, {}, { idempotencyKey: 'once' });
    await auth.rotation.rollBack(apiKey.id);
    await expect(auth.rotation.rotate(apiKey.id, {}, { idempotencyKey: 'once' })).rejects.toMatchObject({
      code: 'already_claimed',
    });
    await expect(auth.rotation.rollBack(apiKey.id)).rejects.toMatchObject({ code: 'version_conflict' });
  });

  test('a version row that is removed or put back from outside is noticed', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create({ userId: 'u', name: 'k' });
    await auth.rotation.rotate(apiKey.id);
    await auth.rotation.rollBack(apiKey.id);
    await engine.sql('delete from api_key_versions where key_id = ? and version = 2', apiKey.id);
    await expect(auth.keys.get(apiKey.id)).rejects.toMatchObject({ code: 'key_quarantined' });
  });
});

test('with retireOnFirstUse the previous version ends when the new one is used, and not before', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k' });
  // For a day after a start whose clock was ahead, nothing is done that is final.
  engine.clock.advance(2 * DAY_MS);
  const rotated = await auth.rotation.rotate(apiKey.id, { overlap: '30d', retireOnFirstUse: true });
  await stays(engine, apiKey.id, ['key.rotated']);
  expect(await auth.verify({ key })).toMatchObject({ valid: true });
  expect(await auth.verify({ key: rotated.key })).toMatchObject({ valid: true });
  await happened(engine, apiKey.id, 'key.rotated', 'key.version_retired');
  expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'version_retired' } });
  expect(await auth.verify({ key: rotated.key })).toMatchObject({ valid: true });
});

describe('a use that is stored while the job looks at the key is not lost', () => {
  const nextLook = (afterRead: () => Promise<void>): void => {
    const { ofKey } = SqlUsageRows.prototype;
    vi.spyOn(SqlUsageRows.prototype, 'ofKey').mockImplementationOnce(async function (this: SqlUsageRows, ...of) {
      const found = await Reflect.apply(ofKey, this, of);
      await afterRead();
      return found;
    });
  };

  test('when nothing else is due', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k' });
    clock.advance(2 * DAY_MS);
    const rotated = Promise.withResolvers<string>();
    nextLook(async () => {
      await auth.verify({ key: await rotated.promise });
      await usesStored(engine, apiKey.id, 2);
    });
    rotated.resolve((await auth.rotation.rotate(apiKey.id, { overlap: '30d', retireOnFirstUse: true })).key);
    await happened(engine, apiKey.id, 'key.rotated', 'key.version_retired');
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'version_retired' } });
  });

  test('when something is announced', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const expiresAt = new Date(clock.now() + 60 * DAY_MS);
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', expiresAt });
    clock.advance(10 * DAY_MS);
    const rotated = await auth.rotation.rotate(apiKey.id, { overlap: '30d', retireOnFirstUse: true });
    await stays(engine, apiKey.id, ['key.rotated']);
    nextLook(async () => {
      await auth.verify({ key: rotated.key });
      await usesStored(engine, apiKey.id, 2);
    });
    clock.advance(25 * DAY_MS);
    await happened(engine, apiKey.id, 'key.rotated', 'key.expiring', 'key.version_retired');
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'version_retired' } });
  });
});

describe('a key that expires when its rotation is missed', () => {
  const rotation = { every: '30d', window: '2d', onMissed: 'expire' } as const;

  test('is first announced for a whole window, however late: when the policy comes later than it is due', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k' });
    clock.advance(365 * DAY_MS);
    await auth.keys.update(apiKey.id, { rotation });
    await happened(engine, apiKey.id, 'key.updated', 'key.rotation_due');
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    clock.advance(2 * DAY_MS);
    await happened(engine, apiKey.id, 'key.updated', 'key.rotation_due', 'key.updated');
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'expired' } });
    // Given another life, its holder has another window.
    await auth.keys.update(apiKey.id, { expiresAt: null });
    const before = ['key.updated', 'key.rotation_due', 'key.updated', 'key.updated'];
    await happened(engine, apiKey.id, ...before, 'key.rotation_due');
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
  });

  test('is not ended for a window in which its holder could not act', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', rotation });
    clock.advance(30 * DAY_MS);
    await happened(engine, apiKey.id, 'key.rotation_due');
    await auth.keys.suspend(apiKey.id);
    clock.advance(10 * DAY_MS);
    await auth.keys.resume(apiKey.id);
    await happened(engine, apiKey.id, 'key.rotation_due', 'key.suspended', 'key.resumed', 'key.rotation_due');
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
  });

  test('nor for one in which its tenant was suspended, at whatever time the job looks', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', rotation });
    clock.advance(30 * DAY_MS);
    const announced = ['key.rotation_due', 'key.rotation_reminded'];
    await happened(engine, apiKey.id, 'key.rotation_due');
    clock.advance(DAY_MS);
    await happened(engine, apiKey.id, ...announced);
    await auth.tenants.suspend('default');
    clock.advance(DAY_MS - MINUTE_MS);
    await auth.tenants.resume('default');
    clock.advance(MINUTE_MS);
    await happened(engine, apiKey.id, ...announced, 'key.rotation_due');
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    clock.advance(DAY_MS);
    await happened(engine, apiKey.id, ...announced, ...announced);
    clock.advance(DAY_MS);
    await happened(engine, apiKey.id, ...announced, ...announced, 'key.updated');
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'expired' } });
  });
});

describe('a next secret and its first use', () => {
  const waitingKey = async (engine: TestEngine) => {
    const { auth, clock } = engine;
    const { publicKey, privateKey } = X25519();
    const recipientJwk = publicKey.export({ format: 'jwk' });
    const { key, apiKey } = await auth.keys.create({
      userId: 'u',
      name: 'k',
      rotation: { every: '30d', recipientJwk },
    });
    await auth.verify({ key });
    await usesStored(engine, apiKey.id, 1);
    clock.advance(30 * DAY_MS);
    await happened(engine, apiKey.id, 'key.rotated');
    const answer = await auth.nextSecret(request(key));
    if (!answer.found) throw new Error(answer.refusal.code);
    return { key, next: await opened(answer.next.jwe, privateKey), id: apiKey.id };
  };

  test.each([
    ['suspended', (auth: PantheonAuth, id: string) => auth.keys.suspend(id)],
    ['ip_not_allowed', (auth: PantheonAuth, id: string) => auth.keys.update(id, { ipAllowlist: ['10.0.0.1'] })],
    ['suspended', (auth: PantheonAuth) => auth.tenants.suspend('default')],
  ] as const)('and it is not told to a holder that became %s while the read waited', async (code, change) => {
    await using engine = await openTestEngine();
    const { key, id } = await waitingKey(engine);
    const { run } = CommandReads.prototype;
    vi.spyOn(CommandReads.prototype, 'run').mockImplementationOnce(async function (this: CommandReads, ...read) {
      await change(engine.auth, id);
      return Reflect.apply(run, this, read);
    });
    expect(await engine.auth.nextSecret(request(key))).toMatchObject({ found: false, refusal: { code } });
  });

  test('the use is noticed also when the key was suspended and resumed meanwhile', async () => {
    await using engine = await openTestEngine();
    const { next, id } = await waitingKey(engine);
    await engine.auth.keys.suspend(id);
    await engine.auth.keys.resume(id);
    await engine.auth.verify({ key: next });
    const events = ['key.rotated', 'key.suspended', 'key.resumed'];
    await happened(engine, id, ...events, 'key.rotation_completed');
    expect(await engine.sql('select * from next_secrets')).toEqual([]);
  });

  test('and also when the key is changed after the use was stored', async () => {
    await using engine = await openTestEngine();
    const { next, id } = await waitingKey(engine);
    await engine.auth.verify({ key: next });
    await engine.auth.keys.update(id, { name: 'renamed' });
    await until(engine, async () => expect(await engine.sql('select * from next_secrets')).toEqual([]));
  });

  test('retired by a call after its overlap, the previous version fetches nothing any more', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, id } = await waitingKey(engine);
    clock.advance(2 * DAY_MS);
    expect(await auth.nextSecret(request(key))).toMatchObject({ found: true });
    await auth.rotation.retire(id, 1, { reason: 'leaked' });
    expect(await engine.sql('select * from next_secrets')).toEqual([]);
    expect(await auth.nextSecret(request(key))).toMatchObject({ found: false });
  });
});

test('an old key string takes nothing from the limits of its key, and is no use of it', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const rateLimits = [{ name: 'minute', limit: 5, window: '1m' }];
  const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', rateLimits });
  const rotated = await auth.rotation.rotate(apiKey.id, { overlap: 0 });
  for (let nth = 0; nth < 20; nth += 1)
    expect(await auth.nextSecret(request(key))).toMatchObject({ found: false, refusal: { code: 'version_retired' } });
  const verification = await auth.verify({ key: rotated.key });
  expect(verification).toMatchObject({ valid: true, limits: [{ remaining: 4 }] });
  expect(await auth.keys.versions(apiKey.id)).toMatchObject([{ usageCount: 1 }, { usageCount: 0 }]);
});

test('who may not hand out a key does not become its recipient', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const permissions = ['pantheon:keys:update', 'pantheon:keys:rotate'] as const;
  const clerk = await auth.keys.create({ userId: 'clerk', name: 'clerk', permissions: [...permissions] });
  const victim = await auth.keys.create({ userId: 'owner', name: 'victim', jwt: { customClaims: { role: 'admin' } } });
  const answer = await auth.authenticate(request(clerk.key));
  if (!answer.authenticated) throw new Error(answer.refusal.code);
  const by = callerOf(answer.principal, { address: null, userAgent: null, requestId: null });
  const recipientJwk = X25519().publicKey.export({ format: 'jwk' });
  const change = auth.keys.update(victim.apiKey.id, { rotation: { every: '1d', recipientJwk } }, { by });
  await expect(change).rejects.toMatchObject({ code: 'not_grantable', field: 'userId' });
});

describe('the coming expiry of a key', () => {
  test('is announced by events and told to the holder with every call', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k', expiresIn: '100d' });
    const header = async (): Promise<string | undefined> => {
      const answer = await auth.authenticate(request(key));
      return answer.authenticated ? answer.headers['pantheon-key-expires'] : answer.refusal.code;
    };
    expect(await header()).toBeUndefined();
    clock.advance(70 * DAY_MS);
    await happened(engine, apiKey.id, 'key.expiring');
    const expiresAt = apiKey.expiresAt?.getTime() ?? 0;
    expect(await header()).toBe(`@${Math.floor(expiresAt / SECOND_MS)}`);
    clock.advance(23 * DAY_MS);
    await happened(engine, apiKey.id, 'key.expiring', 'key.expiring');
    const { items } = await auth.events.list('default', { type: 'key.expiring' });
    expect(items[0]?.after).toEqual({ expiresAt: new Date(expiresAt).toISOString() });
    // Moved, it is announced anew; moved far away, it is not announced yet.
    await auth.keys.update(apiKey.id, { expiresIn: '200d' });
    await stays(engine, apiKey.id, ['key.expiring', 'key.expiring', 'key.updated']);
    expect(await header()).toBeUndefined();
    clock.advance(200 * DAY_MS);
    await engine.propagate();
    expect(await header()).toBe('expired');
  });

  test('is announced beside a rotation that is due', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const rotation = { every: '70d', window: '90d' } as const;
    const { apiKey } = await auth.keys.create({ userId: 'u', name: 'k', expiresIn: '100d', rotation });
    clock.advance(70 * DAY_MS);
    await happened(engine, apiKey.id, 'key.rotation_due', 'key.expiring');
  });

  test('is announced at the times of the options, or never', async () => {
    await using engine = await openTestEngine({ expiryNotices: [] });
    const { auth, clock } = engine;
    const { apiKey } = await auth.keys.create({ userId: 'u', name: 'k', expiresIn: '100d' });
    clock.advance(99 * DAY_MS);
    await stays(engine, apiKey.id, []);
    expect(await engine.sql('select * from key_schedules')).toEqual([]);
  });
});
