/** Numbers of usage that are damaged: the batch is stored all the same, and they are read as sound ones. */
import { describe, expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../../test/store.ts';
import { COUNT_MAX, type PendingUsage, type UsageBatch } from '../../usage/usage-rows.ts';

const OUT_OF_RANGE = ['9223372036854775807', '9007199254740992', '-1', '-9223372036854775808'] as const;
const DAY = 86_400_000;

const use = (over: Partial<PendingUsage> = {}): PendingUsage => ({
  tenantId: 't',
  keyId: 'k',
  version: 1,
  count: 2,
  lastUsedAt: 100,
  addresses: [],
  ...over,
});
/** Two uses of `k` and of `other` in one minute. */
const batch = (id: string): UsageBatch => ({
  id,
  at: 1,
  counts: ['k', 'other'].map((keyId) => ({
    tenantId: 't',
    keyId,
    version: 1,
    minute: 60_000,
    outcome: 'valid',
    count: 2,
  })),
  uses: [use(), use({ keyId: 'other' })],
});

async function sumsOf({ db }: ScratchDatabase, keyId: string | null): Promise<readonly number[]> {
  const steps = ['minute', 'hour', 'day'] as const;
  const sums = await Promise.all(steps.map((step) => db.usage.sums({ tenantId: 't', keyId, step, from: 0, to: DAY })));
  return sums.flat().map(({ count }) => count);
}

/** What is stored of `k`, past this service. */
async function storedIn({ sql }: ScratchDatabase, table: string, column: string): Promise<readonly string[]> {
  const owner = table === 'tenant_usage' ? "tenant_id = 't'" : "key_id = 'k'";
  const rows = await sql(`select cast(${column} as text) as stored from ${table} where ${owner}`);
  return rows.map((row) => String(row['stored']));
}

/** What a number of `k` becomes when it was stored and two uses are added to it. */
const COUNTS = [
  ...OUT_OF_RANGE.map((stored) => ({ stored, shown: 1, added: 3 })),
  { stored: String(COUNT_MAX), shown: COUNT_MAX, added: COUNT_MAX },
  { stored: String(COUNT_MAX - 1), shown: COUNT_MAX - 1, added: COUNT_MAX },
  { stored: String(COUNT_MAX - 2), shown: COUNT_MAX - 2, added: COUNT_MAX },
  { stored: '5', shown: 5, added: 7 },
];

describe('a count of uses', () => {
  test.each(COUNTS)('$stored is read as $shown; with two more it is $added', async ({ stored, shown, added }) => {
    await using scratch = await openScratchDatabase();
    const { usage } = scratch.db;
    await usage.store(batch('b1'));
    await scratch.sql(`update version_usage set usage_count = ${stored} where key_id = 'k'`);
    const isShown = async (k: number, other: number): Promise<void> => {
      expect(await usage.totalOf('t', 'k')).toEqual({ usageCount: k, lastUsedAt: 100 });
      expect(await usage.ofKey('t', 'k')).toMatchObject([{ version: 1, usageCount: k, lastUsedAt: 100 }]);
      expect(await usage.totalsOf('t', ['k', 'other'])).toEqual(
        new Map([
          ['k', { usageCount: k, lastUsedAt: 100 }],
          ['other', { usageCount: other, lastUsedAt: 100 }],
        ]),
      );
    };
    await isShown(shown, 2);
    await usage.store(batch('b2'));
    await isShown(added, 4);
    expect(await storedIn(scratch, 'version_usage', 'usage_count')).toEqual([String(added)]);
  });

  const tables = ['usage_counts', 'key_usage', 'tenant_usage'] as const;
  test.each(tables.flatMap((table) => COUNTS.map((one) => ({ table, ...one }))))(
    '$table: $stored is read as $shown; with two more it is $added',
    async ({ table, stored, shown, added }) => {
      await using scratch = await openScratchDatabase();
      const { usage } = scratch.db;
      await usage.store(batch('b1'));
      const owner = table === 'tenant_usage' ? "tenant_id = 't'" : "key_id = 'k'";
      await scratch.sql(`update ${table} set count = ${stored} where ${owner}`);
      const counted = { usage_counts: [0], key_usage: [1, 2], tenant_usage: [] }[table];
      const isShown = async (damaged: number, sound: number): Promise<void> => {
        const ofKey = [0, 1, 2].map((at) => ((counted as number[]).includes(at) ? damaged : sound));
        expect(await sumsOf(scratch, 'k')).toEqual(ofKey);
        expect(await sumsOf(scratch, 'other')).toEqual([sound, sound, sound]);
        const ofTenant = table === 'tenant_usage' ? damaged : 2 * sound;
        expect(await sumsOf(scratch, null)).toEqual([ofTenant, ofTenant, ofTenant]);
      };
      await isShown(shown, 2);
      await usage.store(batch('b2'));
      // The row of a tenant gets the uses of both keys.
      const more = table === 'tenant_usage' ? Math.min(COUNT_MAX, added + 2) : added;
      await isShown(more, 4);
      expect(new Set(await storedIn(scratch, table, 'count'))).toEqual(new Set([String(more)]));
    },
  );
});

describe('a time of the last use', () => {
  const times = [
    ...[...OUT_OF_RANGE, '9007199254740991', '8640000000000001'].map((stored) => ({
      stored,
      shown: null,
      later: 100,
    })),
    { stored: '8640000000000000', shown: 8_640_000_000_000_000, later: 8_640_000_000_000_000 },
    { stored: '50', shown: 50, later: 100 },
    { stored: '200', shown: 200, later: 200 },
  ];
  test.each(times)('$stored is read as $shown; after a use at 100 it is $later', async ({ stored, shown, later }) => {
    await using scratch = await openScratchDatabase();
    const { usage } = scratch.db;
    await usage.store(batch('b1'));
    await scratch.sql(`update version_usage set last_used_at = ${stored} where key_id = 'k'`);
    const isShown = async (usageCount: number, lastUsedAt: number | null): Promise<void> => {
      expect(await usage.totalOf('t', 'k')).toEqual({ usageCount, lastUsedAt });
      expect(await usage.ofKey('t', 'k')).toMatchObject([{ version: 1, usageCount, lastUsedAt }]);
      const totals = await usage.totalsOf('t', ['k', 'other']);
      expect(totals.get('k')).toEqual({ usageCount, lastUsedAt });
      expect(totals.get('other')).toEqual({ usageCount, lastUsedAt: 100 });
    };
    await isShown(2, shown);
    await usage.store(batch('b2'));
    await isShown(4, later);
    expect(await storedIn(scratch, 'version_usage', 'last_used_at')).toEqual([String(later)]);
  });
});

/** Many rows of one key. */
async function versionsOf(scratch: ScratchDatabase, versions: number): Promise<void> {
  const uses = Array.from({ length: versions }, (_, n) => use({ version: n + 1, lastUsedAt: n + 1 }));
  await scratch.db.usage.store({ ...batch('b1'), counts: [], uses });
}

test('the sum over many versions stops at the largest count', async () => {
  await using scratch = await openScratchDatabase();
  await versionsOf(scratch, 1_100);
  await scratch.sql(`update version_usage set usage_count = ${COUNT_MAX}`);
  const total = { usageCount: COUNT_MAX, lastUsedAt: 1_100 };
  expect(await scratch.db.usage.totalOf('t', 'k')).toEqual(total);
  expect(await scratch.db.usage.totalsOf('t', ['k'])).toEqual(new Map([['k', total]]));
  await scratch.sql('delete from version_usage where version > 90');
  expect(await scratch.db.usage.totalOf('t', 'k')).toEqual({ usageCount: COUNT_MAX, lastUsedAt: 90 });
});

test.each(OUT_OF_RANGE)('old versions of which some are damaged (%s) are added to the shared row', async (value) => {
  await using scratch = await openScratchDatabase();
  const { usage } = scratch.db;
  await versionsOf(scratch, 20);
  await scratch.sql(
    `update version_usage set usage_count = ${value}, last_used_at = ${value} where version in (1, 12)`,
  );
  await usage.foldVersions(11);
  const shared = async () =>
    (await scratch.sql('select usage_count, last_used_at from version_usage where version = 0')).map((row) =>
      Object.values(row).map(Number),
    );
  expect(await shared()).toEqual([[21, 11]]);
  await scratch.sql(`update version_usage set usage_count = ${value}, last_used_at = ${value} where version = 0`);
  while (await usage.foldVersions(11));
  // Version 12 was the last: of one use and no known time, added to a row of one use and no known time.
  expect(await shared()).toEqual([[2, 0]]);
  expect(await usage.totalOf('t', 'k')).toEqual({ usageCount: 18, lastUsedAt: 20 });
});

test.each(['9223372036854775807', '-9223372036854775808'])(
  'a version that is damaged (%s) is not reported, and hides none that is kept',
  async (value) => {
    await using scratch = await openScratchDatabase();
    const { usage } = scratch.db;
    await versionsOf(scratch, 9);
    await scratch.sql(`update version_usage set version = ${value} where version = 1`);
    expect((await usage.ofKey('t', 'k')).map(({ version }) => version)).toEqual([9, 8, 7, 6, 5, 4, 3, 2]);
    expect(await usage.totalOf('t', 'k')).toEqual({ usageCount: 18, lastUsedAt: 9 });
    while (await usage.foldVersions(100));
    expect(await usage.totalsOf('t', ['k'])).toEqual(new Map([['k', { usageCount: 18, lastUsedAt: 9 }]]));
  },
);
