import { expect, test } from 'vitest';
import { openScratchDatabase, sampleEvent } from '../../testing/scratch-database.ts';

test('the head is read synchronously, also after a commit of another connection', async () => {
  await using scratch = await openScratchDatabase();
  expect(scratch.db.log.headSync?.()).toMatchObject({ seq: 0, at: 0 });
  const other = await scratch.openAgain();
  await other.ledger.commit({ changes: [], events: [sampleEvent({ at: 7 })] });
  // It does not ask which event that was, nor what time it is there: it is a microsecond's question (I4).
  expect({ ...scratch.db.log.headSync?.() }).toEqual({ seq: 1, at: 7, eventId: null, server: null, storeNow: null });
});

test('after the close, reading the head fails with shutting_down', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.close();
  expect(() => scratch.db.log.headSync?.()).toThrow(/shutting_down/);
});
