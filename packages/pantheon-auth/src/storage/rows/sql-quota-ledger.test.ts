import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../../test/store.ts';
import type { QuotaLease } from '../../rate-limit/rate-limiter.ts';
import { QUOTA_PERIODS_KEPT_MAX } from './sql-quota-ledger.ts';

const lease: QuotaLease = { tenantId: 't', keyId: 'k', period: '2026-11-22', limit: 10 };

test('a reservation gets what remains, and no more', async () => {
  await using scratch = await openScratchDatabase();
  const { quota } = scratch.db;
  expect(await quota.reserve(lease, 7)).toEqual({ granted: 7, left: 3 });
  expect(await quota.reserve(lease, 7)).toEqual({ granted: 3, left: 0 });
  expect(await quota.reserve(lease, 7)).toEqual({ granted: 0, left: 0 });
  expect(await quota.reserve({ ...lease, period: '2026-11-23' }, 0)).toEqual({ granted: 0, left: 10 });
  expect(await quota.reserve({ ...lease, keyId: 'other' }, 1)).toEqual({ granted: 1, left: 9 });
});

test('a limit that was lowered below what is reserved grants nothing', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.quota.reserve(lease, 8);
  expect(await scratch.db.quota.reserve({ ...lease, limit: 5 }, 1)).toEqual({ granted: 0, left: 0 });
});

test('returned units can be reserved again, and the count never goes below zero', async () => {
  await using scratch = await openScratchDatabase();
  const { quota } = scratch.db;
  await quota.release(lease, 5);
  await quota.reserve(lease, 4);
  await quota.release(lease, 100);
  expect(await quota.reserve(lease, 100)).toEqual({ granted: 10, left: 0 });
});

test('for any reservations and returns of several nodes the quota is never exceeded', async () => {
  const step = fc.record({ units: fc.nat(12), gives: fc.boolean(), node: fc.nat(1) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      await using scratch = await openScratchDatabase();
      const nodes = [scratch.db.quota, (await scratch.openAgain()).quota];
      const held = [0, 0];
      for (const { units, gives, node } of steps) {
        const quota = nodes[node] ?? scratch.db.quota;
        const mine = held[node] ?? 0;
        if (gives) {
          await quota.release(lease, Math.min(units, mine));
          held[node] = mine - Math.min(units, mine);
        } else held[node] = mine + (await quota.reserve(lease, units)).granted;
        expect((held[0] ?? 0) + (held[1] ?? 0)).toBeLessThanOrEqual(lease.limit);
      }
    }),
    { numRuns: 10 },
  );
});

test('reservations at the same time share the quota exactly', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  const grants = await Promise.all(
    Array.from({ length: 12 }, (_, n) => (n % 2 ? other : scratch.db).quota.reserve(lease, 3)),
  );
  expect(grants.reduce((sum, { granted }) => sum + granted, 0)).toBe(lease.limit);
});

test('old periods are deleted, and nothing can be reserved in them any more', async () => {
  await using scratch = await openScratchDatabase();
  const { quota } = scratch.db;
  const period = (n: number) => new Date(Date.UTC(2026, 0, 1 + n)).toISOString().slice(0, 10);
  for (let n = 0; n <= QUOTA_PERIODS_KEPT_MAX; n += 1) await quota.reserve({ ...lease, period: period(n) }, 10);
  expect(await quota.reserve({ ...lease, period: period(0) }, 1)).toEqual({ granted: 0, left: 0 });
  expect(await quota.reserve({ ...lease, period: period(1) }, 1)).toEqual({ granted: 0, left: 0 });
  await quota.release({ ...lease, period: period(1) }, 4);
  expect(await quota.reserve({ ...lease, period: period(1) }, 9)).toEqual({ granted: 4, left: 0 });
});

test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])('%s is refused as a number of units', async (units) => {
  await using scratch = await openScratchDatabase();
  await expect(scratch.db.quota.reserve(lease, units)).rejects.toThrow('whole number');
  await expect(scratch.db.quota.release(lease, units)).rejects.toThrow('whole number');
});
