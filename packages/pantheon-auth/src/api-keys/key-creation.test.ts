import { expect, test, vi } from 'vitest';
import { callerWith } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { ATTEMPTS_MAX } from '../commands/run-command.ts';
import { KeyStorage } from './key-storage.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };
const PARENT = { userId: 'u', name: 'p', permissions: ['pantheon:keys:create'], grantable: ['docs:*'] };

/** A caller, and what happens to its key after it was looked at and before the commit of what it makes. */
async function callerOf(engine: TestEngine, between: (id: string, attempt: number) => Promise<unknown>) {
  const { apiKey } = await engine.auth.keys.create(PARENT);
  const { id, permissions, grantable } = apiKey;
  const commit = KeyStorage.prototype.commit;
  let attempts = 0;
  // The moment cannot be hit from outside.
  const spy = vi.spyOn(KeyStorage.prototype, 'commit').mockImplementation(async function (
    this: KeyStorage,
    changes,
    idempotencyRecords,
  ) {
    if (changes[0].change.expectedRevision !== null) return commit.call(this, changes, idempotencyRecords);
    attempts += 1;
    await between(id, attempts);
    return commit.call(this, changes, idempotencyRecords);
  });
  const by = callerWith({ apiKey, permissions, grantable });
  return { by, id, attempts: () => attempts, [Symbol.dispose]: () => spy.mockRestore() };
}

test('a caller whose key is changed in the meantime and may still create a key creates it once', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  using caller = await callerOf(engine, async (id, attempt) => {
    if (attempt === 1) await auth.keys.update(id, { name: 'other' });
  });
  const { key, apiKey } = await auth.keys.create(INPUT, { by: caller.by });
  expect(caller.attempts()).toBe(2);
  expect(apiKey.createdBy).toBe(caller.id);
  expect(await auth.verify({ key })).toMatchObject({ valid: true });
  const created = (await auth.keys.list()).items.filter((one) => 'name' in one && one.name === INPUT.name);
  expect(created).toHaveLength(1);
});

test('each attempt is decided again, by what the key of the caller may grant by then', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  using caller = await callerOf(engine, (id) => auth.keys.update(id, { grantable: ['other:*'] }));
  expect((await refusalOf(auth.keys.create(INPUT, { by: caller.by }))).code).toBe('not_grantable');
  expect(caller.attempts()).toBe(1);
});

test('and whose key changes all the time gets conflict after a few attempts', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  using caller = await callerOf(engine, (id, attempt) => auth.keys.update(id, { name: `name ${attempt}` }));
  expect((await refusalOf(auth.keys.create(INPUT, { by: caller.by }))).code).toBe('conflict');
  expect(caller.attempts()).toBe(ATTEMPTS_MAX);
});

test('the same request twice at the same moment creates one key, and both answers are about it', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  let twin: Promise<unknown> | null = null;
  using caller = await callerOf(engine, async (_id, attempt) => {
    if (attempt !== 1) return;
    twin = auth.keys.create(INPUT, { by: caller.by, idempotencyKey: 'once' });
    await twin;
  });
  const { key, apiKey } = await auth.keys.create(INPUT, { by: caller.by, idempotencyKey: 'once' });
  expect(await twin).toMatchObject({ apiKey: { id: apiKey.id } });
  expect(await auth.verify({ key })).toMatchObject({ valid: true });
  const created = (await auth.keys.list()).items.filter((one) => 'name' in one && one.name === INPUT.name);
  expect(created).toHaveLength(1);
});
