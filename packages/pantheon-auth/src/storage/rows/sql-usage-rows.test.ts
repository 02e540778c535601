import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../../test/store.ts';
import type { PendingUsage, UsageBatch, UsageCount } from '../../usage/usage-rows.ts';
import { BATCH_IDS_KEPT_MS } from './sql-usage-rows.ts';

const count = (over: Partial<UsageCount> = {}): UsageCount => ({
  tenantId: 't',
  keyId: 'k',
  version: 1,
  minute: 60_000,
  outcome: 'valid',
  count: 1,
  ...over,
});
const use = (over: Partial<PendingUsage> = {}): PendingUsage => ({
  tenantId: 't',
  keyId: 'k',
  version: 1,
  count: 1,
  lastUsedAt: 100,
  addresses: ['1.1.1.1'],
  ...over,
});
const batch = (id: string, over: Partial<UsageBatch> = {}): UsageBatch => ({
  id,
  at: 1,
  counts: [],
  uses: [],
  ...over,
});
const whole = { tenantId: 't', keyId: null, step: 'minute', from: 0, to: 1_000_000 } as const;
const DAY = 86_400_000;

/** All sums that are kept, of keys and of tenants, by step. Each must be the sum of the counts. */
async function sumsOf({ db }: ScratchDatabase, keyIds: readonly string[] = ['k']): Promise<Record<string, unknown>[]> {
  const all: Record<string, unknown>[] = [];
  for (const keyId of [null, ...keyIds]) {
    for (const step of ['minute', 'hour', 'day'] as const) {
      for (const sum of await db.usage.sums({ ...whole, keyId, step, to: DAY })) all.push({ keyId, step, ...sum });
    }
  }
  return all;
}

/** Of one key and its tenant, where there are no others. */
function everyStep(sums: readonly { readonly outcome: string; readonly count: number }[]): Record<string, unknown>[] {
  return [null, 'k'].flatMap((keyId) =>
    (['minute', 'hour', 'day'] as const).flatMap((step) =>
      sums.map((sum) => ({ keyId, step, from: step === 'minute' ? 60_000 : 0, ...sum })),
    ),
  );
}

test('batches add up, and one that is sent again changes nothing', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const first = batch('b1', {
    counts: [count({ count: 2 }), count({ outcome: 'rate_limited' })],
    uses: [use({ count: 2 })],
  });
  await usage.store(first);
  await usage.store(first);
  await usage.store(
    batch('b2', { counts: [count({ count: 3 })], uses: [use({ count: 3, lastUsedAt: 50, addresses: [] })] }),
  );
  expect(await sumsOf(scratch)).toEqual(
    everyStep([
      { outcome: 'rate_limited', count: 1 },
      { outcome: 'valid', count: 5 },
    ]),
  );
  expect(await usage.ofKey('t', 'k')).toEqual([
    { version: 1, usageCount: 5, lastUsedAt: 100, lastAddresses: ['1.1.1.1'] },
  ]);
  expect(await usage.totalsOf('t', ['k'])).toEqual(new Map([['k', { usageCount: 5, lastUsedAt: 100 }]]));
});

test('a batch is stored whole or not at all', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const bad = use({ count: 0.5 });
  await expect(usage.store(batch('b1', { counts: [count()], uses: [bad] }))).rejects.toThrow();
  expect(await sumsOf(scratch)).toEqual([]);
  await usage.store(batch('b1', { counts: [count()] }));
  expect(await sumsOf(scratch)).toEqual(everyStep([{ outcome: 'valid', count: 1 }]));
});

test('the latest addresses come first, each once, at most five', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const addressesAfter = async (id: string, addresses: readonly string[]) => {
    await usage.store(batch(id, { uses: [use({ addresses })] }));
    return (await usage.ofKey('t', 'k'))[0]?.lastAddresses;
  };
  expect(await addressesAfter('b1', ['c', 'b', 'a', 'b'])).toEqual(['c', 'b', 'a']);
  expect(await addressesAfter('b2', ['e', 'd', 'c'])).toEqual(['e', 'd', 'c', 'b', 'a']);
  expect(await addressesAfter('b3', ['f', 'a'])).toEqual(['f', 'a', 'e', 'd', 'c']);
  expect(await addressesAfter('b4', [])).toEqual(['f', 'a', 'e', 'd', 'c']);
});

test.each(['[', '{}', '["a",1]'])(
  'a damaged list of addresses (%s) is shown without its invalid entries',
  async (text) => {
    await using scratch = await openScratchDatabase();
    await scratch.db.usage.store(batch('b1', { uses: [use()] }));
    await scratch.sql('update version_usage set last_addresses = ?', text);
    const shown = (await scratch.db.usage.ofKey('t', 'k'))[0]?.lastAddresses;
    expect(shown).toEqual(text === '["a",1]' ? ['a'] : []);
  },
);

test('usage of many keys is one statement whatever their number, over all versions, of one tenant', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const uses = [use(), use({ version: 2, lastUsedAt: 300 }), use({ keyId: `'"` })];
  await usage.store(batch('b1', { uses: [...uses, use({ keyId: 'foreign', tenantId: 'other' })] }));
  scratch.statements.length = 0;
  expect(await usage.totalsOf('t', ['k', `'"`, 'foreign', 'none'])).toEqual(
    new Map([
      ['k', { usageCount: 2, lastUsedAt: 300 }],
      [`'"`, { usageCount: 1, lastUsedAt: 100 }],
    ]),
  );
  expect(await usage.totalsOf('t', [])).toEqual(new Map());
  expect(scratch.statements).toHaveLength(2);
  expect(new Set(scratch.statements).size).toBe(1);
});

test('of one key the newest versions are read, however often it was rotated, and of its own tenant only', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  await usage.store(batch('b1', { uses: Array.from({ length: 20 }, (_, n) => use({ version: n + 1 })) }));
  expect((await usage.ofKey('t', 'k')).map(({ version }) => version)).toEqual([20, 19, 18, 17, 16, 15, 14, 13]);
  expect(await usage.ofKey('other', 'k')).toEqual([]);
  expect(await usage.totalsOf('t', ['k'])).toEqual(new Map([['k', { usageCount: 20, lastUsedAt: 100 }]]));
});

/** What is stored of the versions of `k`: `[version, usage_count, last_used_at]`. */
async function versionsOf({ sql }: ScratchDatabase): Promise<readonly (readonly unknown[])[]> {
  const rows = await sql(
    "select version, usage_count, last_used_at from version_usage where key_id = 'k' order by version",
  );
  return rows.map((row) => [row['version'], row['usage_count'], row['last_used_at']].map(Number));
}
const total = async ({ db }: ScratchDatabase): Promise<unknown> => (await db.usage.totalsOf('t', ['k'])).get('k');

test('of a key that is rotated for years the versions that are kept have rows of their own, and the older ones share one row', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const uses = Array.from({ length: 250 }, (_, n) => use({ version: n + 1, count: 2, lastUsedAt: n + 1 }));
  await usage.store(batch('b1', { uses: [...uses, use({ keyId: 'other', version: 9 })] }));
  const before = await total(scratch);
  const newest = await usage.ofKey('t', 'k');
  let slices = 0;
  for (let isMore = true; isMore; slices += 1) {
    const rows = (await versionsOf(scratch)).length;
    isMore = await usage.foldVersions(100);
    expect(rows - (await versionsOf(scratch)).length).toBeLessThanOrEqual(100);
    expect(await total(scratch)).toEqual(before);
  }
  expect(slices).toBe(4); // 100, 100 and 42 rows of this key, none of the other.
  expect(before).toEqual({ usageCount: 500, lastUsedAt: 250 });
  expect(await versionsOf(scratch)).toEqual([
    [0, 484, 242],
    ...uses.slice(-8).map((one) => [one.version, 2, one.lastUsedAt]),
  ]);
  expect(await usage.ofKey('t', 'k')).toEqual(newest);
  expect(await usage.ofKey('t', 'other')).toMatchObject([{ version: 9, usageCount: 1 }]);
});

test('a use of an old version that is stored late is added to the shared row', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const uses = Array.from({ length: 20 }, (_, n) => use({ version: n + 1 }));
  await usage.store(batch('b1', { uses }));
  while (await usage.foldVersions(100));
  await usage.store(batch('b2', { uses: [use({ version: 10, count: 5, lastUsedAt: 900 })] }));
  expect(await total(scratch)).toEqual({ usageCount: 25, lastUsedAt: 900 });
  while (await usage.foldVersions(100));
  expect((await versionsOf(scratch))[0]).toEqual([0, 17, 900]);
  expect(await versionsOf(scratch)).toHaveLength(9);
  expect(await total(scratch)).toEqual({ usageCount: 25, lastUsedAt: 900 });
});

test('a key whose versions are all in the shared row reports no usage by version', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  await usage.store(batch('b1', { uses: Array.from({ length: 9 }, (_, n) => use({ version: n + 1 })) }));
  await usage.foldVersions(100);
  await scratch.sql('delete from version_usage where version > 3');
  expect(await versionsOf(scratch)).toEqual([
    [0, 1, 100],
    [2, 1, 100],
    [3, 1, 100],
  ]);
  expect((await usage.ofKey('t', 'k')).map(({ version }) => version)).toEqual([3, 2]);
});

test('nodes that fold old versions while others store uses lose none and count none twice', async () => {
  await using scratch = await openScratchDatabase();
  const nodes = [scratch.db, await scratch.openAgain(), await scratch.openAgain()];
  const work: Promise<unknown>[] = [];
  for (let round = 0; round < 8; round += 1) {
    for (const [at, node] of nodes.entries()) {
      const uses = Array.from({ length: 30 }, (_, n) => use({ version: round * 10 + n + 1 }));
      work.push(node.usage.store(batch(`b${round}-${at}`, { uses })), node.usage.foldVersions(7));
    }
    await Promise.all(work);
  }
  for (const node of nodes) while (await node.usage.foldVersions(7));
  expect(await total(scratch)).toEqual({ usageCount: 8 * nodes.length * 30, lastUsedAt: 100 });
  expect((await versionsOf(scratch)).map(([version]) => version)).toEqual([0, 93, 94, 95, 96, 97, 98, 99, 100]);
});

test('sums are limited to one tenant, to one key if requested, and to a time range, in order of time', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const counts = [
    count({ minute: 180_000 }),
    count({ minute: 180_000, version: 2 }),
    count(),
    count({ keyId: 'l', minute: 180_000 }),
    count({ tenantId: 'u', keyId: 'm' }),
  ];
  await usage.store(batch('b1', { counts }));
  const sums = async (over: Partial<Parameters<typeof usage.sums>[0]>) =>
    (await usage.sums({ ...whole, ...over })).map((sum) => [sum.from, sum.count]);
  expect(await sums({})).toEqual([
    [60_000, 1],
    [180_000, 3],
  ]);
  expect(await sums({ keyId: 'k' })).toEqual([
    [60_000, 1],
    [180_000, 2],
  ]);
  expect(await sums({ keyId: 'm' })).toEqual([]);
  expect(await sums({ keyId: 'm', step: 'hour' })).toEqual([]);
  expect(await sums({ from: 60_000, to: 180_000 })).toEqual([[60_000, 1]]);
  expect(await sums({ from: 60_001, to: 180_001 })).toEqual([[180_000, 3]]);
  expect(await sums({ step: 'hour' })).toEqual([[0, 4]]);
  expect(await sums({ step: 'day', keyId: 'l' })).toEqual([[0, 1]]);
});

test('old counts are deleted step by step, the oldest first, a bounded number at a time', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const counts = [0, 1, 2, 3].map((day) => count({ minute: day * DAY }));
  await usage.store(batch('b1', { counts }));
  const rows = async (table: string, step = 'true') =>
    (await scratch.sql(`select count(*) as n from ${table} where ${step}`))[0]?.['n'];
  expect(await usage.prune('minute', 2 * DAY, 3)).toBe(3); // Two of the key, one of the tenant.
  expect(await usage.prune('minute', 2 * DAY, 3)).toBe(1);
  expect(await usage.prune('minute', 2 * DAY, 3)).toBe(0);
  expect([await rows('usage_counts'), await rows('tenant_usage', "step = 'minute'")]).toEqual([2, 2]);
  expect(await usage.prune('hour', DAY, 100)).toBe(2);
  expect([await rows('key_usage', "step = 'hour'"), await rows('key_usage', "step = 'day'")]).toEqual([3, 4]);
});

test('the ids of batches are deleted after a day, a bounded number at a time', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const ids = async () => (await scratch.sql('select count(*) as n from usage_batches'))[0]?.['n'];
  await Promise.all(Array.from({ length: 150 }, (_, n) => usage.store(batch(`b${n}`, { at: n }))));
  expect(await ids()).toBe(150);
  await scratch.db.usage.store(batch('late', { at: BATCH_IDS_KEPT_MS + 1_000 }));
  expect(await ids()).toBe(51);
  await scratch.db.usage.store(batch('later', { at: BATCH_IDS_KEPT_MS + 1_000 }));
  expect(await ids()).toBe(2);
});

test('concurrent batches of several nodes about the same keys are each added exactly once', async () => {
  await using scratch = await openScratchDatabase();
  const nodes = [scratch.db, await scratch.openAgain(), await scratch.openAgain()];
  const keys = Array.from({ length: 12 }, (_, n) => `key-${n}`);
  const outcomes = ['valid', 'rate_limited'] as const;
  const minutes = [60_000, 120_000];
  const batches = Array.from({ length: 24 }, (_, n) => {
    const rows = keys.flatMap((keyId) =>
      minutes.flatMap((minute) => outcomes.map((outcome) => count({ keyId, minute, outcome, count: n + 1 }))),
    );
    const uses = keys.map((keyId) => use({ keyId, count: n + 1, lastUsedAt: n, addresses: [`10.0.0.${n}`] }));
    // Each node counts in an order of its own.
    const turned = <T>(list: readonly T[]): T[] => [...list.slice(n), ...list.slice(0, n)];
    return batch(
      `b${n}`,
      n % 2 === 0 ? { counts: turned(rows), uses } : { counts: rows.toReversed(), uses: turned(uses) },
    );
  });
  const retried: string[] = [];
  const store = async (one: UsageBatch, node: number): Promise<void> => {
    try {
      await nodes[node % nodes.length]?.usage.store(one);
    } catch (error) {
      retried.push(String(error));
    }
    // The answer may be lost on its way: whoever sent it sends it again, from wherever.
    await nodes[(node + 1) % nodes.length]?.usage.store(one);
  };
  await Promise.all(batches.map(store));
  expect(retried).toEqual([]);
  const sum = (batches.length * (batches.length + 1)) / 2;
  for (const { keyId, step, count: total } of await sumsOf(scratch, keys)) {
    const minutesInStep = step === 'minute' ? 1 : minutes.length;
    expect(total).toBe(sum * minutesInStep * (keyId === null ? keys.length : 1));
  }
  expect(await sumsOf(scratch, keys)).toHaveLength((keys.length + 1) * 2 * (minutes.length + 1 + 1));
  for (const keyId of keys) {
    const [version] = await scratch.db.usage.ofKey('t', keyId);
    expect(version).toMatchObject({ usageCount: sum, lastUsedAt: batches.length - 1 });
    expect(version?.lastAddresses).toHaveLength(5);
  }
});
