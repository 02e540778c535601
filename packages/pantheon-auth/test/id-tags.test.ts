/**
 * The secrets that tag ids, from outside: two nodes on one store, a rotation during which no key is refused, a leaked
 * secret, a damaged one, and a process of an older version.
 */

import { describe, expect, test } from 'vitest';
import { TAG_SECRETS_ACTIVE_MAX } from '../src/api-keys/id-tags.ts';
import { generateKey, parseKey } from '../src/api-keys/key-generator.ts';
import type { Caller } from '../src/domain/key-policy.ts';
import { createPantheonAuth, type PantheonAuth } from '../src/pantheon-auth.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { callerWith, keyAndCaller } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { restoreStore, STORED_FIXTURES } from './restored-store.ts';
import { StatementCount } from './statement-count.ts';
import { openTestEngine, type TestEngine, turn } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };
/** `stalenessMax` and the margin. */
const READ_EVERYWHERE_MS = 1_050;

const invented = (): string => generateKey({ keyPrefix: 'pan', environment: 'live' }).key;

/** Which secret tagged the id of a key, as it is stored. */
async function tagOf(engine: TestEngine, id: string): Promise<unknown> {
  return (await engine.sql('select id_tag from api_keys where id = ?', id))[0]?.['id_tag'];
}

/** What `auth` reads to say that it does not know this key. */
async function readsFor({ clock }: TestEngine, auth: PantheonAuth, key: string): Promise<number> {
  // What is under way of the log is applied before anything is counted.
  clock.advance(1);
  await auth.ping();
  await turn();
  using count = new StatementCount();
  expect(await auth.verify({ key })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
  return count.reads;
}

test('a reason that contains a key string is refused and not stored, and the exposure is recorded', async () => {
  await using engine = await openTestEngine();
  const { key, apiKey } = await engine.auth.keys.create(INPUT);
  for (const change of [
    () => engine.auth.idTags.add({ reason: `lost with ${key}` }),
    () => engine.auth.idTags.retire(1, { reason: key }),
  ])
    expect(await refusalOf(change)).toMatchObject({ code: 'credential_in_text', field: 'reason' });
  expect(engine.auth.idTags.list()).toHaveLength(1);
  const { items } = await engine.auth.events.list('default', { type: 'key.exposed_in_text' });
  expect(items).toMatchObject([{ subject: { id: apiKey.id } }]);
});

describe('a store', () => {
  test('creates one at its first start, uses it at once, and finds it at the next', async () => {
    await using engine = await openTestEngine();
    expect(engine.auth.idTags.list()).toMatchObject([{ number: 1, retiredAt: null, quarantined: false }]);
    const { apiKey } = await engine.auth.keys.create(INPUT);
    expect(await tagOf(engine, apiKey.id)).toBe(1);
    const again = await engine.openAgain();
    expect(again.idTags.list()).toEqual(engine.auth.idTags.list());
    expect((await engine.auth.events.list('system', { subjectType: 'id_tag_secret' })).items).toHaveLength(1);
  });

  test('tags the id of every new key: the root key, a recovered one and those of its generator included', async () => {
    await using engine = await openTestEngine();
    const written: string[] = [];
    const store = { read: () => null, write: (key: string) => void written.push(key) };
    const root = await engine.auth.bootstrap(store);
    const recovered = await engine.auth.bootstrap(store, { recover: true });
    const { apiKey } = await engine.auth.keys.create(INPUT);
    for (const id of [root?.id, recovered?.id, apiKey.id]) expect(await tagOf(engine, id ?? '')).toBe(1);
    expect(await readsFor(engine, engine.auth, engine.auth.generator.generateKey().key)).toBe(1);
    expect(await readsFor(engine, engine.auth, invented())).toBe(0);
  });

  test('does not adopt a root key that another store created: its id would be denied', async () => {
    await using engine = await openTestEngine();
    const written: string[] = [];
    const root = await engine.auth.bootstrap({ read: invented, write: (key) => void written.push(key) });
    expect(parseKey(written[0] ?? '')?.id).toBe(root?.id);
  });

  test('lets no process of an older version create a key without a tag', async () => {
    await using engine = await openTestEngine();
    const { apiKey } = await engine.auth.keys.create(INPUT);
    const columns = (await columnsOfKeys(engine)).filter((name) => name !== 'id' && name !== 'id_tag').join(', ');
    const insert = `insert into api_keys (id, ${columns}) select 'OlderOlderOlderO', ${columns} from api_keys where id = ?`;
    await expect(engine.sql(insert, apiKey.id)).rejects.toThrow(/the id of a new key has a tag/);
  });
});

async function columnsOfKeys(engine: TestEngine): Promise<readonly string[]> {
  const [row] = await engine.sql('select * from api_keys limit 1');
  return Object.keys(row ?? {});
}

describe('a secret that was added', () => {
  test('tags new ids once every node has read it, and no key is refused by any node at any moment', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const nodes = [engine.auth, other];
    const tags: unknown[] = [];
    const makeAndUse = async (): Promise<void> => {
      for (const maker of nodes) {
        const { key, apiKey } = await maker.keys.create(INPUT);
        tags.push(await tagOf(engine, apiKey.id));
        for (const node of nodes) expect(await node.verify({ key })).toMatchObject({ valid: true });
      }
    };
    await makeAndUse();
    await engine.auth.idTags.add({ reason: 'for a test' });
    for (let ms = 0; ms < READ_EVERYWHERE_MS; ms += 150) {
      await makeAndUse();
      engine.clock.advance(150);
    }
    expect(new Set(tags)).toEqual(new Set([1]));
    // The other node may have heard of it a moment later.
    await other.ping();
    await turn();
    engine.clock.advance(READ_EVERYWHERE_MS);
    tags.length = 0;
    await makeAndUse();
    expect(tags).toEqual([2, 2]);
    // A node that starts now takes it too, a while after it was made.
    engine.clock.advance(60_000 + READ_EVERYWHERE_MS);
    const late = await engine.openAgain();
    const { apiKey } = await late.keys.create(INPUT);
    expect(await tagOf(engine, apiKey.id)).toBe(2);
  });

  test('is not used by a node that started a moment after it was added', async () => {
    await using engine = await openTestEngine();
    await engine.auth.idTags.add();
    const late = await engine.openAgain();
    const { apiKey } = await late.keys.create(INPUT);
    expect(await tagOf(engine, apiKey.id)).toBe(1);
  });

  test('is refused beyond the maximum number', async () => {
    await using engine = await openTestEngine();
    for (let n = 1; n < TAG_SECRETS_ACTIVE_MAX; n += 1) await engine.auth.idTags.add();
    expect((await refusalOf(engine.auth.idTags.add())).code).toBe('not_allowed');
    await engine.auth.idTags.retire(1);
    expect(await engine.auth.idTags.add()).toMatchObject({ number: TAG_SECRETS_ACTIVE_MAX + 1 });
  });

  test('by two nodes at once gives two secrets', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const added = await Promise.all([engine.auth.idTags.add(), other.idTags.add()]);
    expect(added.map(({ number }) => number).toSorted()).toEqual([2, 3]);
  });
});

describe('a secret that was retired', () => {
  test('leaves its keys valid, and an id that was tagged with it costs one read from then on', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create(INPUT);
    const leaked = Array.from({ length: 2 }, () => auth.generator.generateKey().key);
    await auth.idTags.add();
    engine.clock.advance(READ_EVERYWHERE_MS);
    expect(await auth.idTags.retire(1, { reason: 'leaked' })).toMatchObject({ number: 1, retiredAt: expect.any(Date) });
    await auth.idTags.retire(1);
    expect((await auth.events.list('system', { type: 'id_tag_secret.retired' })).items).toMatchObject([
      { reason: 'leaked', subject: { id: '1' } },
    ]);
    const fresh = await engine.openAgain();
    for (const node of [auth, fresh]) {
      expect(await node.verify({ key })).toMatchObject({ valid: true });
      expect(await readsFor(engine, node, leaked[node === auth ? 0 : 1] ?? '')).toBe(1);
      // Who does not know it gains nothing.
      expect(await readsFor(engine, node, invented())).toBe(0);
    }
    const { apiKey } = await auth.keys.create(INPUT);
    expect(await tagOf(engine, apiKey.id)).toBe(2);
  });

  test('as the last one gets a successor, and keys created meanwhile are accepted on every node', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    await engine.auth.idTags.retire(1);
    for (let ms = 0; ms <= 2 * READ_EVERYWHERE_MS; ms += 150) {
      const { key } = await engine.auth.keys.create(INPUT);
      for (const node of [engine.auth, other]) expect(await node.verify({ key })).toMatchObject({ valid: true });
      engine.clock.advance(150);
    }
    expect(engine.auth.idTags.list()).toMatchObject([{ number: 2, retiredAt: null }, { number: 1 }]);
    const { apiKey } = await engine.auth.keys.create(INPUT);
    expect(await tagOf(engine, apiKey.id)).toBe(2);
    expect((await refusalOf(engine.auth.idTags.retire(9))).code).toBe('not_found');
  });
});

describe('a secret that cannot be decrypted', () => {
  test('has ids read from the store, not denied: its keys are accepted, with one warning', async () => {
    await using engine = await openTestEngine();
    const { key } = await engine.auth.keys.create(INPUT);
    await engine.sql('update id_tag_secrets set sealed = substr(sealed, 1, 40)');
    const warnings: string[] = [];
    const warn = (_fields: object, message: string): void => void warnings.push(message);
    const fresh = await engine.openAgain({ logger: { warn, error: warn } });
    expect(await fresh.verify({ key })).toMatchObject({ valid: true });
    const unknown = invented();
    expect(await readsFor(engine, fresh, unknown)).toBe(1);
    expect(await readsFor(engine, fresh, unknown)).toBe(0);
    await fresh.idTags.add();
    expect(warnings.filter((line) => line.includes('a secret that tags ids cannot be opened'))).toHaveLength(1);
    expect(fresh.idTags.list().find(({ number }) => number === 1)).toMatchObject({ quarantined: true });
    // It made another one at its start: new ids take it when every node has read it.
    expect((await refusalOf(fresh.keys.create(INPUT))).code).toBe('store_unavailable');
    engine.clock.advance(READ_EVERYWHERE_MS);
    const made = await fresh.keys.create(INPUT);
    for (const node of [fresh, engine.auth])
      expect(await node.verify({ key: made.key })).toMatchObject({ valid: true });
  });

  test('nor is an id denied without a read when rows of the list are missing', async () => {
    for (const sql of ['delete from id_tag_secrets', 'delete from id_tag_secrets where number = 1']) {
      await using engine = await openTestEngine();
      const { key } = await engine.auth.keys.create(INPUT);
      await engine.auth.idTags.add();
      await engine.sql(sql);
      const fresh = await engine.openAgain();
      expect(await fresh.verify({ key })).toMatchObject({ valid: true });
      expect(fresh.idTags.list()[0]?.number).toBeGreaterThan(1);
    }
  });
});

describe('who may change the list', () => {
  const READ = ['pantheon:id-tags:read'];
  const outside = callerWith({ tenantId: 'acme', permissions: ['pantheon:*'] });
  const reader = callerWith({ tenantId: 'system', permissions: READ });

  test('only keys of the system tenant with the permission; for others the list does not exist', async () => {
    await using engine = await openTestEngine();
    const { idTags } = engine.auth;
    const all = await keyAndCaller(engine, 'system', { permissions: ['pantheon:*'] });
    for (const change of [(by: Caller) => idTags.add({ by }), (by: Caller) => idTags.retire(1, { by })]) {
      expect((await refusalOf(() => change(outside))).code).toBe('not_found');
      expect((await refusalOf(() => change(reader))).code).toBe('insufficient_permissions');
    }
    expect((await refusalOf(() => idTags.list({ by: outside }))).code).toBe('not_found');
    expect(idTags.list({ by: reader })).toHaveLength(1);
    await idTags.add({ by: all.by, reason: 'for a test' });
    const { items } = await engine.auth.events.list('system', { type: 'id_tag_secret.added', limit: 1 });
    expect(items).toMatchObject([{ actor: { keyId: all.id }, reason: 'for a test', subject: { id: '2' } }]);
  });

  test('a caller that was revoked in the meantime changes nothing', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const root = await auth.bootstrap({ read: () => null, write: () => {} });
    if (root === null) throw new Error('there is a root key already');
    const by = callerWith({ apiKey: root, tenantId: 'system' });
    await auth.idTags.add({ by });
    await auth.tenant('system').keys.revoke(root.id, { force: true });
    expect((await refusalOf(auth.idTags.retire(1, { by }))).code).toBe('revoked');
    expect(auth.idTags.list()).toMatchObject([{ retiredAt: null }, { retiredAt: null }]);
  });
});

describe('a store that is older than tags', () => {
  const [name = ''] = STORED_FIXTURES;

  test('gets its first secret at the first start, uses it at once, and reads ids without a tag from the store', async () => {
    await using restored = await restoreStore(name);
    const clock = new TestClock(Date.parse(restored.contents.madeAt) + 60_000);
    const nodes = await Promise.all([1, 2].map(() => createPantheonAuth({ ...restored.options, clock })));
    const old = restored.contents.keys.filter((one) => one.answer === 'valid' && one.ip === null);
    expect(old.length).toBeGreaterThan(3);
    for (const node of nodes) {
      expect(node.idTags.list()).toMatchObject([{ number: 1 }]);
      const { key } = await node.keys.create(INPUT);
      for (const other of nodes) {
        expect(await other.verify({ key })).toMatchObject({ valid: true });
        for (const { credential, tenant, environment } of old)
          expect(await other.verify({ key: credential, tenant, environment, cost: 0 })).toMatchObject({ valid: true });
      }
    }
    for (const node of nodes) await node.close();
  });
});
