import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../../test/store.ts';
import { sampleEvent } from '../../testing/scratch-database.ts';

async function remember(scratch: ScratchDatabase, idempotency_key: string, created_at: number): Promise<void> {
  const row = { tenant_id: 't', caller: 'c', idempotency_key, request_hash: 'h', key_id: 'k', version: 3, created_at };
  await scratch.db.ledger.commit({
    changes: [],
    events: [sampleEvent()],
    idempotencyRecords: [{ table: 'idempotency', row }],
  });
}

const request = { tenantId: 't', caller: 'c', idempotencyKey: 'a' };

test('a record is found by tenant, caller and idempotency key, until it expires', async () => {
  await using scratch = await openScratchDatabase();
  await remember(scratch, 'a', 100);
  const { idempotency } = scratch.db;
  const found = { ...request, requestHash: 'h', keyId: 'k', version: 3, createdAt: 100 };
  expect(await idempotency.find(request, 100)).toEqual(found);
  expect(await idempotency.find(request, 101)).toBeNull();
  for (const other of [{ tenantId: 'x' }, { caller: 'x' }, { idempotencyKey: 'x' }]) {
    expect(await idempotency.find({ ...request, ...other }, 0)).toBeNull();
  }
});

test('pruning deletes the oldest first, a bounded number at a time', async () => {
  await using scratch = await openScratchDatabase();
  for (const [key, at] of [
    ['c', 3],
    ['a', 1],
    ['d', 4],
    ['b', 2],
  ] as const)
    await remember(scratch, key, at);
  const { idempotency } = scratch.db;
  expect(await idempotency.prune(4, 2)).toBe(2);
  expect(await idempotency.find({ ...request, idempotencyKey: 'b' }, 0)).toBeNull();
  expect(await idempotency.find({ ...request, idempotencyKey: 'c' }, 0)).not.toBeNull();
  expect(await idempotency.prune(4, 100)).toBe(1);
  expect(await idempotency.prune(4, 100)).toBe(0);
  expect(await idempotency.find({ ...request, idempotencyKey: 'd' }, 0)).not.toBeNull();
});
