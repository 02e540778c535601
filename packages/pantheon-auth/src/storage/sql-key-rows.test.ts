import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase, STORE } from '../../test/store.ts';
import type { KeyListQuery } from '../api-keys/key-rows.ts';
import type { Row, RowChange } from '../events/ledger.ts';
import { DAY_MS } from '../foundation/clock.ts';
import {
  insertKey,
  insertTenant,
  sampleEvent,
  sampleKey,
  sampleTenant,
  sampleVersion,
} from '../testing/scratch-database.ts';
import { SCAN_SLICE_KEYS } from './sql-key-rows.ts';

const NOW = 10_000;
const everything: KeyListQuery = {
  tenantId: 'default',
  userId: null,
  createdBy: null,
  state: null,
  environment: null,
  text: null,
  after: null,
  limit: 100,
  now: NOW,
};

async function withKeys(keys: readonly Row[]): Promise<ScratchDatabase> {
  const scratch = await openScratchDatabase();
  const tenants = new Set(['default', ...keys.map((key) => String(key['tenant_id']))]);
  const changes: RowChange[] = [...tenants].map((id) => insertTenant({ id, tenant_id: id }));
  for (const key of keys) changes.push(...insertKey(key));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  return scratch;
}

async function idsOf(scratch: ScratchDatabase, query: Partial<KeyListQuery>): Promise<readonly string[]> {
  const found = await scratch.db.keys.list({ ...everything, ...query });
  return found.map(({ key }) => String(key['id']));
}

test('a key is read with its versions, newest first, and its tenant, in one statement, byte for byte', async () => {
  const sealed = new Uint8Array(256).map((_, index) => index);
  const key = sampleKey({
    name: `O'Brien "x" \\ ß 🚀`,
    sealed,
    quota: '{"limit":1}',
    expires_at: 8_640_000_000_000_000,
  });
  await using scratch = await withKeys([key]);
  const id = String(key['id']);
  const second = sampleVersion({ key_id: id, version: 10, sealed: new Uint8Array(0) });
  const third = sampleVersion({ key_id: id, version: 9, accepted_until: 5 });
  const insert = (row: Row): RowChange => ({ kind: 'insert', table: 'api_key_versions', row });
  await scratch.db.ledger.commit({ changes: [insert(third), insert(second)], events: [sampleEvent()] });
  scratch.statements.length = 0;
  const first = sampleVersion({ key_id: id });
  expect(await scratch.db.keys.find(id)).toEqual({ key, versions: [second, third, first], tenant: sampleTenant() });
  expect(scratch.statements).toHaveLength(1);
});

test('at most eight versions are read: the newest', async () => {
  const key = sampleKey();
  await using scratch = await withKeys([key]);
  const more = Array.from({ length: 9 }, (_, n) => sampleVersion({ key_id: key['id'] ?? null, version: n + 2 }));
  const changes = more.map((row): RowChange => ({ kind: 'insert', table: 'api_key_versions', row }));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  const found = await scratch.db.keys.find(String(key['id']));
  expect(found?.versions.map((version) => version['version'])).toEqual([10, 9, 8, 7, 6, 5, 4, 3]);
});

test('what was never made is not found, whatever the id looks like', async () => {
  await using scratch = await withKeys([sampleKey()]);
  for (const id of ['', 'x', `' or 1=1 --`, '%', '\u0001', "'".repeat(65_536)]) {
    expect(await scratch.db.keys.find(id)).toBeNull();
  }
});

test('a list is newest first, its pages join without gap or repetition, and ties are broken by id', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 25 }),
      fc.integer({ min: 1, max: 7 }),
      fc.constantFrom({}, { environment: 'live' }, { userId: 'user-1', text: 'sam' }),
      async (ages, limit, filter) => {
        await using scratch = await withKeys(ages.map((created_at) => sampleKey({ created_at })));
        const whole = await idsOf(scratch, filter);
        const paged: string[] = [];
        let after: KeyListQuery['after'] = null;
        for (;;) {
          const page = await scratch.db.keys.list({ ...everything, ...filter, after, limit });
          paged.push(...page.map(({ key }) => String(key['id'])));
          const last = page.at(-1)?.key;
          if (last === undefined || page.length < limit) break;
          after = { createdAt: Number(last['created_at']), id: String(last['id']) };
        }
        expect(paged).toEqual(whole);
        expect(new Set(whole).size).toBe(ages.length);
      },
    ),
    { numRuns: STORE === 'postgres' ? 8 : 20 },
  );
});

test('each filter narrows, and expired is not active', async () => {
  const ids = { plain: 'a'.repeat(16), over: 'b'.repeat(16), off: 'c'.repeat(16), dead: 'd'.repeat(16) };
  await using scratch = await withKeys([
    sampleKey({ id: ids.plain, user_id: 'ada', created_by: 'root', expires_at: NOW + 1 }),
    sampleKey({ id: ids.over, expires_at: NOW, environment: 'test' }),
    sampleKey({ id: ids.off, state: 'suspended', expires_at: 1 }),
    sampleKey({ id: ids.dead, state: 'revoked' }),
  ]);
  const found = (query: Partial<KeyListQuery>) => idsOf(scratch, query);
  expect(await found({})).toEqual([ids.dead, ids.off, ids.over, ids.plain]);
  expect(await found({ state: 'active' })).toEqual([ids.plain]);
  expect(await found({ state: 'expired' })).toEqual([ids.over]);
  expect(await found({ state: 'suspended' })).toEqual([ids.off]);
  expect(await found({ state: 'revoked' })).toEqual([ids.dead]);
  expect(await found({ environment: 'test' })).toEqual([ids.over]);
  expect(await found({ userId: 'ada' })).toEqual([ids.plain]);
  expect(await found({ createdBy: 'root' })).toEqual([ids.plain]);
  expect(await found({ userId: 'ada', createdBy: 'root', state: 'revoked' })).toEqual([]);
  expect(await found({ tenantId: 'other' })).toEqual([]);
});

test('a search is literal, in any case and language, over part of the name or the start of an id', async () => {
  const id = 'AbcAbcAbcAbcAbc1';
  await using scratch = await withKeys([sampleKey({ name: '100% ÉTÉ_x\\y' }), sampleKey({ name: 'other', id })]);
  const names = async (text: string) =>
    (await scratch.db.keys.list({ ...everything, text })).map(({ key }) => key['name']);
  for (const text of ['100%', 'été', 'É_X'.slice(0, 1), '_x', '\\Y', '100% été_x\\y']) {
    expect(await names(text)).toEqual(['100% ÉTÉ_x\\y']);
  }
  for (const text of ['Abc', id, 'OTH']) expect(await names(text)).toEqual(['other']);
  for (const text of ['1%0', '__', 'abcA', 'bcA', `${id}2`, `' or 1=1 --`, '%'.repeat(65_536)]) {
    expect(await names(text)).toEqual([]);
  }
});

test('a search looks at a bounded number of keys at a time, lets the event loop turn, and still finds the last', async () => {
  const keys = Array.from({ length: SCAN_SLICE_KEYS * 2 + 5 }, (_, n) => sampleKey({ created_at: n + 1 }));
  const needle = sampleKey({ name: 'needle', created_at: 0 });
  const scratch = await openScratchDatabase();
  await using _ = scratch;
  await scratch.db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  for (let at = 0; at < keys.length; at += 1_000) {
    const changes = keys.slice(at, at + 1_000).flatMap(insertKey);
    await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  }
  await scratch.db.ledger.commit({ changes: [...insertKey(needle)], events: [sampleEvent()] });
  let turns = 0;
  const count = (): void => {
    turns += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  scratch.statements.length = 0;
  expect(await idsOf(scratch, { text: 'needle' })).toEqual([needle['id']]);
  clearImmediate(timer);
  expect(turns).toBeGreaterThanOrEqual(2);
  expect(scratch.statements).toHaveLength(6); // Three slices, and the end of each.
  scratch.statements.length = 0;
  expect(await idsOf(scratch, { environment: 'live', limit: 7 })).toHaveLength(7);
  expect(await idsOf(scratch, { limit: 7 })).toHaveLength(7);
  expect(scratch.statements).toHaveLength(2);
}, 60_000);

test('a key without a version is read, so that whoever opens it sees the damage', async () => {
  const key = sampleKey();
  await using scratch = await withKeys([key]);
  const where = { key_id: key['id'] ?? null };
  await scratch.db.ledger.commit({
    changes: [{ kind: 'delete', table: 'api_key_versions', where }],
    events: [sampleEvent()],
  });
  expect(await scratch.db.keys.find(String(key['id']))).toMatchObject({ key, versions: [] });
});

test('administrators are keys of the system tenant that hold pantheon:* and can be used from anywhere, also tomorrow; the oldest first', async () => {
  const admin = { tenant_id: 'system', permissions: '["a:b","pantheon:*"]' };
  const others = [
    sampleKey({ ...admin, state: 'revoked' }),
    sampleKey({ ...admin, state: 'suspended' }),
    sampleKey({ ...admin, expires_at: NOW }),
    sampleKey({ ...admin, expires_at: NOW + DAY_MS }),
    sampleKey({ ...admin, not_before: NOW + 1 }),
    sampleKey({ ...admin, environment: 'test' }),
    sampleKey({ ...admin, ip_allowlist: '["10.0.0.0/8"]' }),
    sampleKey({ ...admin, quota: '{"limit":1,"period":"month"}' }),
    sampleKey({ ...admin, permissions: '["pantheon:keys:*"]' }),
    sampleKey({ ...admin, permissions: '["x.pantheon:*"]' }),
    sampleKey({ ...admin, tenant_id: 'default' }),
  ];
  const good = sampleKey({ ...admin, expires_at: NOW + DAY_MS + 1, not_before: NOW, created_at: 2 });
  await using scratch = await withKeys([...others, good]);
  expect(await scratch.db.keys.administrators(NOW)).toEqual([good['id']]);
  const more = [3, 1].map((createdAt) => sampleKey({ ...admin, created_at: createdAt }));
  await scratch.db.ledger.commit({ changes: more.flatMap(insertKey), events: [sampleEvent()] });
  expect(await scratch.db.keys.administrators(NOW)).toEqual([more[1]?.['id'], good['id'], more[0]?.['id']]);
});
