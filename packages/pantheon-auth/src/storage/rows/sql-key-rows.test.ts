import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../../test/store.ts';
import type { KeyListQuery } from '../../api-keys/key-rows.ts';
import type { RowChange } from '../../events/ledger.ts';
import { DAY_MS } from '../../foundation/clock.ts';
import { newId } from '../../foundation/ids.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../../schema/api-key-row.ts';
import {
  insertKey,
  insertTenant,
  sampleEvent,
  sampleKey,
  sampleTenant,
  sampleVersion,
} from '../../testing/scratch-database.ts';
import { PAGE_BYTES_MAX, PAGE_ROWS_EXAMINED_MAX, SLICE_ROWS } from './scan.ts';

const NOW = 10_000;
const everything: KeyListQuery = {
  tenantId: 'default',
  userId: null,
  state: null,
  environment: null,
  text: null,
  after: null,
  limit: 100,
  now: NOW,
};

async function withKeys(keys: readonly ApiKeyRow[]): Promise<ScratchDatabase> {
  const scratch = await openScratchDatabase();
  const tenants = new Set(['default', ...keys.map((key) => key.tenant_id)]);
  const changes: RowChange[] = [...tenants].map((id) => insertTenant({ id, tenant_id: id }));
  for (const key of keys) changes.push(...insertKey(key));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  return scratch;
}

async function idsOf(scratch: ScratchDatabase, query: Partial<KeyListQuery>): Promise<readonly string[]> {
  const { items } = await scratch.db.keys.list({ ...everything, ...query });
  return items.map(({ key }) => key.id);
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
  const id = key.id;
  const second = sampleVersion({ key_id: id, version: 10, sealed: new Uint8Array(0) });
  const third = sampleVersion({ key_id: id, version: 9, accepted_until: 5 });
  const insert = (row: ApiKeyVersionRow): RowChange => ({ kind: 'insert', table: 'api_key_versions', row });
  await scratch.db.ledger.commit({ changes: [insert(third), insert(second)], events: [sampleEvent()] });
  scratch.statements.length = 0;
  const first = sampleVersion({ key_id: id });
  expect(await scratch.db.keys.find(id)).toEqual({
    key,
    versions: [second, third, first],
    tenant: { ...sampleTenant(), audiences: null },
  });
  expect(scratch.statements).toHaveLength(1);
});

test('at most eight versions are read: the newest', async () => {
  const key = sampleKey();
  await using scratch = await withKeys([key]);
  const more = Array.from({ length: 9 }, (_, n) => sampleVersion({ key_id: key.id, version: n + 2 }));
  const changes = more.map((row): RowChange => ({ kind: 'insert', table: 'api_key_versions', row }));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  const found = await scratch.db.keys.find(key.id);
  expect(found?.versions.map((version) => version.version)).toEqual([10, 9, 8, 7, 6, 5, 4, 3]);
});

test('an id without a key is not found, whatever it looks like', async () => {
  await using scratch = await withKeys([sampleKey()]);
  for (const id of ['', 'x', `' or 1=1 --`, '%', '\u0001', "'".repeat(65_536)]) {
    expect(await scratch.db.keys.find(id)).toBeNull();
  }
});

test('a list is newest first, its pages join without gap or repetition, and ties are broken by id', async () => {
  await using scratch = await openScratchDatabase();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 25 }),
      fc.integer({ min: 1, max: 7 }),
      fc.constantFrom({}, { environment: 'live' }, { userId: 'user-1', text: 'sam' }),
      async (ages, limit, filter) => {
        const tenantId = newId();
        const keys = ages.map((created_at) => sampleKey({ created_at, tenant_id: tenantId }));
        const changes = [insertTenant({ id: tenantId, tenant_id: tenantId }), ...keys.flatMap(insertKey)];
        await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
        const whole = await idsOf(scratch, { ...filter, tenantId });
        const paged: string[] = [];
        let after: KeyListQuery['after'] = null;
        for (;;) {
          const { items, next } = await scratch.db.keys.list({ ...everything, ...filter, tenantId, after, limit });
          paged.push(...items.map(({ key }) => key.id));
          expect(items.length).toBe(next === null ? whole.length - paged.length + items.length : limit);
          if (next === null) break;
          after = next;
        }
        expect(paged).toEqual(whole);
        expect(new Set(whole).size).toBe(ages.length);
      },
    ),
    { numRuns: 30 },
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
  expect(await found({ userId: 'ada', state: 'revoked' })).toEqual([]);
  expect(await found({ tenantId: 'other' })).toEqual([]);
});

test('a search is literal, ignores case in all languages, and matches a part of the name or the start of an id', async () => {
  const id = 'AbcAbcAbcAbcAbc1';
  await using scratch = await withKeys([sampleKey({ name: '100% ÉTÉ_x\\y' }), sampleKey({ name: 'other', id })]);
  const names = async (text: string) =>
    (await scratch.db.keys.list({ ...everything, text })).items.map(({ key }) => key.name);
  for (const text of ['100%', 'été', 'É_X'.slice(0, 1), '_x', '\\Y', '100% été_x\\y']) {
    expect(await names(text)).toEqual(['100% ÉTÉ_x\\y']);
  }
  for (const text of ['Abc', id, 'OTH']) expect(await names(text)).toEqual(['other']);
  for (const text of ['1%0', '__', 'abcA', 'bcA', `${id}2`, `' or 1=1 --`, '%'.repeat(65_536)]) {
    expect(await names(text)).toEqual([]);
  }
});

/** Keys that match no filter below, the oldest of them first of all. */
async function withManyKeys(count: number): Promise<ScratchDatabase> {
  const scratch = await withKeys([sampleKey({ id: 'a'.repeat(16), name: 'needle', created_at: 0 })]);
  await scratch.sql(
    `insert into api_keys (id, tenant_id, id_tag, user_id, name, environment, permissions, grantable, state, created_at,
      rate_limits, ip_allowlist, version, revision, sealed)
    with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)
    select 'key' || i, 'default', id_tag, 'user-1', 'Sample', 'live', '[]', '[]', 'active', i, '[]', '[]', 1, 1, sealed
    from n, api_keys as k where k.name = 'needle'`,
    count,
  );
  scratch.statements.length = 0;
  return scratch;
}

test.each([
  { text: 'needle' },
  { text: 'needle', userId: 'user-1' },
  { environment: 'test' },
  { state: 'expired' },
  { state: 'suspended' },
] as const)(
  'a page reads a bounded number of keys and says where to continue: %j',
  async (filter) => {
    await using scratch = await withManyKeys(PAGE_ROWS_EXAMINED_MAX + 5);
    const first = await scratch.db.keys.list({ ...everything, ...filter });
    expect(first).toEqual({ items: [], next: { createdAt: 6, id: 'key6' } });
    // Each slice, and the end of each: no statement looks at more rows than one slice has.
    expect(scratch.statements).toHaveLength((2 * PAGE_ROWS_EXAMINED_MAX) / SLICE_ROWS);
    const second = await scratch.db.keys.list({ ...everything, ...filter, after: first.next });
    expect(second.items.map(({ key }) => key.name)).toEqual('text' in filter ? ['needle'] : []);
    expect(second.next).toBeNull();
  },
  60_000,
);

test('a search lets the event loop turn between its slices, and ends there if no caller waits for it', async () => {
  await using scratch = await withManyKeys(3 * SLICE_ROWS);
  let turns = 0;
  const count = (): void => {
    turns += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  await scratch.db.keys.list({ ...everything, text: 'nothing' });
  clearImmediate(timer);
  expect(turns).toBeGreaterThanOrEqual(3);
  scratch.statements.length = 0;
  const client = new AbortController();
  const search = scratch.db.keys.list({ ...everything, text: 'nothing' }, client.signal);
  client.abort(new Error('gone'));
  await expect(search).rejects.toThrow('gone');
  expect(scratch.statements.length).toBeLessThanOrEqual(2);
}, 60_000);

test('a list without a filter reads one row more than it shows', async () => {
  await using scratch = await withManyKeys(2 * SLICE_ROWS);
  expect((await scratch.db.keys.list({ ...everything, limit: 7 })).items).toHaveLength(7);
  expect(scratch.statements).toHaveLength(2);
});

test('a page ends before it is too large, after at least one key, and no key is skipped', async () => {
  const large = 'x'.repeat(PAGE_BYTES_MAX / 3);
  const sizes = [large, large, large, '[]', `${large}${large}${large}${large}`, '[]'];
  await using scratch = await withKeys(
    sizes.map((permissions, at) => sampleKey({ permissions, created_at: 100 - at })),
  );
  const pages: number[][] = [];
  let after: KeyListQuery['after'] = null;
  do {
    const { items, next } = await scratch.db.keys.list({ ...everything, after });
    pages.push(items.map(({ key }) => sizes.indexOf(key.permissions, 100 - Number(key.created_at))));
    after = next;
  } while (after !== null);
  expect(pages).toEqual([[0, 1], [2, 3], [4], [5]]);
});

test('the children of a key are found in every tenant, newest first, page by page', async () => {
  const child = (id: string, created_at: number, tenant_id: string) =>
    sampleKey({ id, created_at, tenant_id, created_by: 'parent' });
  const keys = [child('a', 1, 'default'), child('b', 2, 'other'), child('c', 2, 'default'), sampleKey({ id: 'd' })];
  await using scratch = await withKeys(keys);
  const first = await scratch.db.keys.childrenOf('parent', null, 2);
  expect(first).toEqual([
    { tenantId: 'default', createdAt: 2, id: 'c' },
    { tenantId: 'other', createdAt: 2, id: 'b' },
  ]);
  const rest = await scratch.db.keys.childrenOf('parent', first.at(-1) ?? null, 2);
  expect(rest).toEqual([{ tenantId: 'default', createdAt: 1, id: 'a' }]);
});

test('a key without a version is read, so that the damage is found', async () => {
  const key = sampleKey();
  await using scratch = await withKeys([key]);
  const where = { key_id: key.id, tenant_id: key.tenant_id };
  await scratch.db.ledger.commit({
    changes: [{ kind: 'delete', table: 'api_key_versions', where }],
    events: [sampleEvent()],
  });
  expect(await scratch.db.keys.find(key.id)).toMatchObject({ key, versions: [] });
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
  expect(await scratch.db.keys.administrators(NOW)).toEqual([good.id]);
  const more = [3, 1].map((createdAt) => sampleKey({ ...admin, created_at: createdAt }));
  await scratch.db.ledger.commit({ changes: more.flatMap(insertKey), events: [sampleEvent()] });
  expect(await scratch.db.keys.administrators(NOW)).toEqual([more[1]?.id, good.id, more[0]?.id]);
});
