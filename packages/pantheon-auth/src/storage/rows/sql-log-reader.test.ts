import { expect, test } from 'vitest';
import { openScratchDatabase, STORE } from '../../../test/store.ts';
import { sampleEvent } from '../../testing/scratch-database.ts';

test('the head of a new log is 0', async () => {
  await using scratch = await openScratchDatabase();
  expect(await scratch.db.log.head()).toMatchObject({ seq: 0, at: 0, eventId: null });
  expect(await scratch.db.log.noticesFrom(1, 10)).toEqual([]);
});

test('the head is the last event, also after a commit of another node', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  const last = sampleEvent({ at: 7 });
  await other.ledger.commit({ changes: [], events: [sampleEvent({ at: 9 }), last] });
  expect(await scratch.db.log.head()).toMatchObject({ seq: 2, at: 9, eventId: last.id });
});

test('a store on another machine returns its time, and has no synchronous head', async () => {
  await using scratch = await openScratchDatabase();
  const { headSync, onNotify } = scratch.db.log;
  const { storeNow } = await scratch.db.log.head();
  if (STORE === 'sqlite') expect([headSync === null, onNotify, storeNow]).toEqual([false, null, null]);
  else {
    expect([headSync, onNotify === null]).toEqual([null, false]);
    expect(Number.isSafeInteger(storeNow)).toBe(true);
    expect(storeNow).toBeGreaterThan(Date.UTC(2026, 0, 1));
  }
});

test('events are read in order, from a position on, in pages', async () => {
  await using scratch = await openScratchDatabase();
  const first = sampleEvent({ type: 'tenant.created', subjectType: 'tenant', subjectId: 'a', tenantId: 'a' });
  await scratch.db.ledger.commit({ changes: [], events: [first, sampleEvent(), sampleEvent()] });
  expect(await scratch.db.log.noticesFrom(0, 1)).toEqual([
    { seq: 1, id: first.id, type: 'tenant.created', tenantId: 'a', subjectType: 'tenant', subjectId: 'a' },
  ]);
  expect((await scratch.db.log.noticesFrom(2, 10)).map((notice) => notice.seq)).toEqual([2, 3]);
});

test('after the close, reading the log fails with shutting_down', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.close();
  await expect(scratch.db.log.head()).rejects.toMatchObject({ code: 'shutting_down' });
});
