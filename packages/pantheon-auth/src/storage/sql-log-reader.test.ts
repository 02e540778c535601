import { expect, test } from 'vitest';
import { openScratchDatabase, sampleEvent } from '../testing/scratch-database.ts';
import { SqlLogReader } from './sql-log-reader.ts';

test('the head of a new log is 0', async () => {
  await using scratch = await openScratchDatabase();
  expect({ ...scratch.db.log.headNow?.() }).toEqual({ seq: 0, at: 0 });
  expect(await scratch.db.log.noticesAfter(0, 10)).toEqual([]);
});

test('the head is seen at once, without waiting, also what another connection committed', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  await other.ledger.commit({ changes: [], events: [sampleEvent({ at: 7 })] });
  expect({ ...scratch.db.log.headNow?.() }).toEqual({ seq: 1, at: 7 });
  expect(await scratch.db.log.head()).toEqual({ seq: 1, at: 7 });
});

test('notices come in order, strictly after a place, in pages', async () => {
  await using scratch = await openScratchDatabase();
  const first = sampleEvent({ type: 'tenant.created', subjectType: 'tenant', subjectId: 'a', tenantId: 'a' });
  await scratch.db.ledger.commit({ changes: [], events: [first, sampleEvent(), sampleEvent()] });
  expect(await scratch.db.log.noticesAfter(0, 1)).toEqual([
    { seq: 1, type: 'tenant.created', tenantId: 'a', subjectType: 'tenant', subjectId: 'a' },
  ]);
  expect((await scratch.db.log.noticesAfter(1, 10)).map((notice) => notice.seq)).toEqual([2, 3]);
});

test('after the close the head says that we are stopping', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.close();
  expect(() => scratch.db.log.headNow?.()).toThrow(/shutting_down/);
  await expect(scratch.db.log.head()).rejects.toMatchObject({ code: 'shutting_down' });
});

test('a store that must be asked has no head at once', () => {
  expect(new SqlLogReader(undefined as never, null).headNow).toBeNull();
});
