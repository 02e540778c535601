import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../../test/store.ts';
import type { StoredDataKey } from '../../kms/key-encryption.ts';

function dataKey(id: string, over: Partial<StoredDataKey> = {}): StoredDataKey {
  return { id, tenantId: 'a', wrapped: new Uint8Array([1, 0]), createdAt: 5, retiredAt: null, seals: 0, ...over };
}

test('a tenant has no data key until one is added', async () => {
  await using scratch = await openScratchDatabase();
  const { dataKeys } = scratch.db;
  expect(await dataKeys.active('a')).toBeNull();
  expect(await dataKeys.byId('k1')).toBeNull();
  expect(await dataKeys.add(dataKey('k1'), null)).toEqual(dataKey('k1'));
  expect(await dataKeys.active('a')).toEqual(dataKey('k1'));
  expect(await dataKeys.active('b')).toBeNull();
});

test('a new data key retires the one it replaces, which can still be read', async () => {
  await using scratch = await openScratchDatabase();
  const { dataKeys } = scratch.db;
  await dataKeys.add(dataKey('k1'), null);
  await dataKeys.add(dataKey('k2', { createdAt: 9 }), 'k1');
  expect(await dataKeys.active('a')).toMatchObject({ id: 'k2' });
  expect(await dataKeys.byId('k1')).toEqual(dataKey('k1', { retiredAt: 9 }));
});

test.each(['none before', 'k0 before'])(
  'of many nodes that add one at once, the first one is used by all (%s)',
  async (before) => {
    await using scratch = await openScratchDatabase();
    const other = await scratch.openAgain();
    const replaces = before === 'none before' ? null : 'k0';
    if (replaces !== null) await scratch.db.dataKeys.add(dataKey(replaces), null);
    const added = await Promise.all(
      Array.from({ length: 10 }, (_, n) => (n % 2 ? other : scratch.db).dataKeys.add(dataKey(`n${n}`), replaces)),
    );
    expect(new Set(added.map((key) => key.id)).size).toBe(1);
    expect(await other.dataKeys.active('a')).toEqual(added[0]);
  },
);

test('seals are reserved for each node once', async () => {
  await using scratch = await openScratchDatabase();
  const { dataKeys } = scratch.db;
  await dataKeys.add(dataKey('k1'), null);
  const other = await scratch.openAgain();
  const totals = await Promise.all(
    Array.from({ length: 10 }, (_, n) => (n % 2 ? other.dataKeys : dataKeys).takeSeals('k1', 64)),
  );
  expect(totals.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, n) => (n + 1) * 64));
  await expect(dataKeys.takeSeals('none', 1)).rejects.toThrow('is stored');
});
