/** Two people decide on the same record: the second is told, and nothing that one took away comes back by the other. */
import { describe, expect, test } from 'vitest';
import type { APIKey } from '../src/api-keys/api-key.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read', 'docs:write'] };
const ROTATED = { ...INPUT, rotation: { overlap: '1h' } };

/** `done`, or the code it was refused with. */
async function outcomeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'done',
    (error: { code: string }) => error.code,
  );
}

describe('of two changes with the same etag one is made and the other refused', () => {
  type Change = (auth: PantheonAuth, key: APIKey, one: number) => Promise<unknown>;
  const CHANGES: Readonly<Record<string, Change>> = {
    update: (auth, { id, etag }, one) => auth.keys.update(id, { name: `editor ${one}` }, { ifMatch: etag }),
    suspend: (auth, { id, etag }) => auth.keys.suspend(id, { ifMatch: etag }),
    revoke: (auth, { id, etag }) => auth.keys.revoke(id, { ifMatch: etag }),
    rotate: (auth, { id, etag }) => auth.rotation.rotate(id, { overlap: 0 }, { ifMatch: etag }),
  };

  test.each(Object.entries(CHANGES))('%s, one after the other', async (_what, change) => {
    await using engine = await openTestEngine();
    const { apiKey } = await engine.auth.keys.create(INPUT);
    expect(await outcomeOf(change(engine.auth, apiKey, 1))).toBe('done');
    expect(await outcomeOf(change(engine.auth, apiKey, 2))).toBe('precondition_failed');
  });

  test.each(Object.entries(CHANGES))('%s, at the same moment on two nodes', async (_what, change) => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    for (let round = 0; round < 5; round += 1) {
      const { apiKey } = await engine.auth.keys.create(INPUT);
      const changes = [engine.auth, other, engine.auth, other].map((auth, one) => change(auth, apiKey, one));
      const outcomes = await Promise.all(changes.map(outcomeOf));
      expect(outcomes.sort()).toEqual(['done', ...Array(3).fill('precondition_failed')]);
    }
  });

  test('a tenant, at the same moment on two nodes', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const { etag } = await engine.auth.tenants.create({ id: 'acme', name: 'Acme' });
    const rename = (auth: PantheonAuth, name: string) => auth.tenants.update('acme', { name }, { ifMatch: etag });
    const outcomes = await Promise.all([rename(engine.auth, 'one'), rename(other, 'two')].map(outcomeOf));
    expect(outcomes.sort()).toEqual(['done', 'precondition_failed']);
  });

  test('a permission that one change removed is not restored by the other', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, etag, permissions } = (await auth.keys.create(INPUT)).apiKey;
    await auth.keys.update(id, { permissions: ['docs:read'] }, { ifMatch: etag });
    const stale = auth.keys.update(id, { permissions: [...permissions, 'docs:list'] }, { ifMatch: etag });
    expect(await outcomeOf(stale)).toBe('precondition_failed');
    expect((await auth.keys.get(id)).permissions).toEqual(['docs:read']);
  });
});

test('the etag in an answer is that of the record after the change, and can be used for the next change', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { id, etag } = (await auth.keys.create(ROTATED)).apiKey;
  const seen = [etag];
  const latest = (): { ifMatch: string } => ({ ifMatch: seen.at(-1) ?? '' });
  seen.push((await auth.keys.update(id, { name: 'other' }, latest())).etag);
  seen.push((await auth.rotation.rotate(id, { overlap: '1h' }, latest())).apiKey.etag);
  await auth.rotation.retire(id, 1, latest());
  seen.push((await auth.keys.get(id)).etag);
  seen.push((await auth.keys.suspend(id, latest())).etag);
  seen.push((await auth.keys.resume(id, latest())).etag);
  seen.push((await auth.keys.revoke(id, latest())).etag);
  expect(new Set(seen).size).toBe(seen.length);
  const tenant = await auth.tenants.create({ id: 'acme' });
  const renamed = await auth.tenants.update('acme', { name: 'Acme' }, { ifMatch: tenant.etag });
  const suspended = await auth.tenants.suspend('acme', { ifMatch: renamed.etag });
  const resumed = await auth.tenants.resume('acme', { ifMatch: suspended.etag });
  expect(await outcomeOf(auth.tenants.delete('acme', { ifMatch: tenant.etag }))).toBe('precondition_failed');
  expect((await auth.tenants.delete('acme', { ifMatch: resumed.etag })).state).toBe('deleted');
});

test('the etag depends on settings and state: neither a use nor a call that changes nothing alters it', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key, apiKey } = await auth.keys.create(INPUT);
  await auth.verify({ key });
  const used = await auth.keys.get(apiKey.id);
  expect(used).toMatchObject({ usageCount: 1, etag: apiKey.etag });
  expect((await auth.keys.update(apiKey.id, { name: 'n' })).etag).toBe(apiKey.etag);
  expect((await auth.keys.list()).items).toMatchObject([{ id: apiKey.id, etag: apiKey.etag }]);
});

test('a call that would change nothing is refused too when its etag is older than the record', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { id, etag } = (await auth.keys.create(INPUT)).apiKey;
  await auth.keys.suspend(id);
  expect(await outcomeOf(auth.keys.suspend(id, { ifMatch: etag }))).toBe('precondition_failed');
  await auth.keys.revoke(id);
  expect(await outcomeOf(auth.keys.revoke(id, { ifMatch: etag }))).toBe('precondition_failed');
});

test('without a condition the last change wins; a condition that cannot be parsed is refused', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { id, etag } = (await auth.keys.create(INPUT)).apiKey;
  for (const options of [{}, { ifMatch: '*' }])
    expect(await outcomeOf(auth.keys.update(id, { name: `${options.ifMatch ?? 'none'}` }, options))).toBe('done');
  const unread = await refusalOf(auth.keys.update(id, { name: 'x' }, { ifMatch: etag.slice(1, -1) }));
  expect(unread).toMatchObject({ code: 'invalid_request', field: 'If-Match' });
});

test('a key of another tenant does not exist, whatever the condition says (I10)', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const { id, etag } = (await auth.keys.create(INPUT)).apiKey;
  for (const ifMatch of [etag, '"k99"', '*'])
    expect(await outcomeOf(auth.tenant('acme').keys.update(id, { name: 'x' }, { ifMatch }))).toBe('not_found');
});

test('a repeated request is answered again, although the first one made its condition false', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { id, etag } = (await auth.keys.create(INPUT)).apiKey;
  const rotate = () => auth.rotation.rotate(id, {}, { ifMatch: etag, idempotencyKey: 'once' });
  const [first, second] = [await rotate(), await rotate()];
  expect(second.apiKey.version).toBe(first.apiKey.version);
  const other = auth.rotation.rotate(id, {}, { ifMatch: etag, idempotencyKey: 'twice' });
  expect(await outcomeOf(other)).toBe('precondition_failed');
});
