import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../test/store.ts';
import type { UsageBatch, UsageCount, VersionUse } from '../usage/usage-rows.ts';
import { BATCH_IDS_KEPT_MS, USAGE_COUNTS_READ_MAX } from './sql-usage-rows.ts';

const count = (over: Partial<UsageCount> = {}): UsageCount => ({
  tenantId: 't',
  keyId: 'k',
  version: 1,
  minute: 60_000,
  outcome: 'valid',
  count: 1,
  ...over,
});
const use = (over: Partial<VersionUse> = {}): VersionUse => ({
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
const whole = { tenantId: 't', keyId: null, from: 0, to: 1_000_000 };

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
  expect(await usage.counts(whole)).toEqual([count({ outcome: 'rate_limited' }), count({ count: 5 })]);
  expect(await usage.ofKeys('t', ['k'])).toEqual(
    new Map([['k', [{ version: 1, usageCount: 5, lastUsedAt: 100, lastAddresses: ['1.1.1.1'] }]]]),
  );
});

test('a batch is stored whole or not at all', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const bad = use({ count: 0.5 });
  await expect(usage.store(batch('b1', { counts: [count()], uses: [bad] }))).rejects.toThrow();
  expect(await usage.counts(whole)).toEqual([]);
  await usage.store(batch('b1', { counts: [count()] }));
  expect(await usage.counts(whole)).toEqual([count()]);
});

test('the latest addresses come first, each once, at most five', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const addressesAfter = async (id: string, addresses: readonly string[]) => {
    await usage.store(batch(id, { uses: [use({ addresses })] }));
    return (await usage.ofKeys('t', ['k'])).get('k')?.[0]?.lastAddresses;
  };
  expect(await addressesAfter('b1', ['c', 'b', 'a', 'b'])).toEqual(['c', 'b', 'a']);
  expect(await addressesAfter('b2', ['e', 'd', 'c'])).toEqual(['e', 'd', 'c', 'b', 'a']);
  expect(await addressesAfter('b3', ['f', 'a'])).toEqual(['f', 'a', 'e', 'd', 'c']);
  expect(await addressesAfter('b4', [])).toEqual(['f', 'a', 'e', 'd', 'c']);
});

test.each(['[', '{}', '["a",1]'])(
  'a damaged list of addresses (%s) is shown without what it cannot be',
  async (text) => {
    await using scratch = await openScratchDatabase();
    await scratch.db.usage.store(batch('b1', { uses: [use()] }));
    await scratch.sql('update version_usage set last_addresses = ?', text);
    const shown = (await scratch.db.usage.ofKeys('t', ['k'])).get('k')?.[0]?.lastAddresses;
    expect(shown).toEqual(text === '["a",1]' ? ['a'] : []);
  },
);

test('usage of many keys is one statement whatever their number, newest version first, of one tenant', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const uses = [use(), use({ version: 2 }), use({ keyId: `'"` }), use({ keyId: 'foreign', tenantId: 'other' })];
  await usage.store(batch('b1', { uses }));
  scratch.statements.length = 0;
  const found = await usage.ofKeys('t', ['k', `'"`, 'foreign', 'none']);
  expect([...found].map(([id, versions]) => [id, versions.map(({ version }) => version)])).toEqual([
    [`'"`, [1]],
    ['k', [2, 1]],
  ]);
  expect(await usage.ofKeys('t', [])).toEqual(new Map());
  expect(scratch.statements).toHaveLength(2);
  expect(new Set(scratch.statements).size).toBe(1);
});

test('counts are of one tenant, one key when asked, from a time to before another, in order of time', async () => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  const counts = [
    count({ minute: 180_000 }),
    count(),
    count({ keyId: 'l', minute: 120_000 }),
    count({ tenantId: 'u', keyId: 'm' }),
  ];
  await usage.store(batch('b1', { counts }));
  expect(await usage.counts(whole)).toEqual([counts[1], counts[2], counts[0]]);
  expect(await usage.counts({ ...whole, keyId: 'k' })).toEqual([counts[1], counts[0]]);
  expect(await usage.counts({ ...whole, keyId: 'm' })).toEqual([]);
  expect(await usage.counts({ ...whole, from: 60_000, to: 120_000 })).toEqual([counts[1]]);
  expect(await usage.counts({ ...whole, from: 60_001, to: 180_000 })).toEqual([counts[2]]);
});

test('an answer that would be too long is refused, not cut', async () => {
  await using scratch = await openScratchDatabase();
  const numbers = 'with recursive n (i) as (select 0 union all select i + 1 from n where i < ?)';
  const rows = `${numbers} select 't', 'k', 1, i, 'valid', 1 from n`;
  await scratch.sql(`insert into usage_counts ${rows}`, USAGE_COUNTS_READ_MAX);
  await expect(scratch.db.usage.counts(whole)).rejects.toMatchObject({ code: 'invalid_request', field: 'from' });
  expect(await scratch.db.usage.counts({ ...whole, from: 1 })).toHaveLength(USAGE_COUNTS_READ_MAX);
});

test('the ids of batches are forgotten after a day, a bounded number at a time', async () => {
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

test('batches of several nodes about the same keys add up exactly, each once, however they meet', async () => {
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
  const counts = await scratch.db.usage.counts(whole);
  expect(counts).toHaveLength(keys.length * 4);
  expect(new Set(counts.map((one) => one.count))).toEqual(new Set([sum]));
  for (const [version] of (await scratch.db.usage.ofKeys('t', keys)).values()) {
    expect(version).toMatchObject({ usageCount: sum, lastUsedAt: batches.length - 1 });
    expect(version?.lastAddresses).toHaveLength(5);
  }
});
