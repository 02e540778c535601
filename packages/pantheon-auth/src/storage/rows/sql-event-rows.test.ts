import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../../test/store.ts';
import type { EventType } from '../../domain/event.ts';
import type { EventQuery } from '../../events/event-rows.ts';
import { sampleEvent } from '../../testing/scratch-database.ts';

const all: EventQuery = {
  tenantId: null,
  type: null,
  subjectType: null,
  subjectId: null,
  after: null,
  order: 'oldest_first',
  limit: 100,
};

test('an event is read as it was written, with its sealed part until that is erased', async () => {
  await using scratch = await openScratchDatabase();
  const event = sampleEvent({ body: '{"name":"Jürgen 🚀"}' });
  await scratch.db.ledger.commit({ changes: [], events: [event] });
  const { personal, actorKeyId: _actorKeyId, ...rest } = event;
  const stored = { seq: 1, ...rest };
  expect(await scratch.db.events.list(all)).toEqual({ items: [{ ...stored, personal }], next: null });
  await scratch.sql('delete from event_details');
  expect(await scratch.db.events.list(all)).toEqual({ items: [{ ...stored, personal: null }], next: null });
});

test('each filter narrows, pages go both ways, and a tenant sees its own only', async () => {
  await using scratch = await openScratchDatabase();
  const of = (tenantId: string, subjectId: string) => sampleEvent({ tenantId, subjectId });
  const tenant = sampleEvent({ type: 'tenant.created', subjectType: 'tenant', subjectId: 'a', tenantId: 'a' });
  await scratch.db.ledger.commit({ changes: [], events: [tenant, of('a', 'k1'), of('b', 'k2'), of('a', 'k3')] });
  const seqs = async (query: Partial<EventQuery>) =>
    (await scratch.db.events.list({ ...all, ...query })).items.map((event) => event.seq);
  expect(await seqs({})).toEqual([1, 2, 3, 4]);
  expect(await seqs({ tenantId: 'a' })).toEqual([1, 2, 4]);
  expect(await seqs({ type: 'tenant.created' })).toEqual([1]);
  expect(await seqs({ subjectType: 'key' })).toEqual([2, 3, 4]);
  expect(await seqs({ subjectId: 'k2' })).toEqual([3]);
  expect(await seqs({ subjectId: 'k2', tenantId: 'a' })).toEqual([]);
  expect(await seqs({ after: 2, limit: 1 })).toEqual([3]);
  expect(await seqs({ after: 4, order: 'newest_first' })).toEqual([3, 2, 1]);
  expect(await seqs({ order: 'newest_first', limit: 2 })).toEqual([4, 3]);
});

test('changes that a key made to keys are found by it, in order and in pages, with or without a token', async () => {
  await using scratch = await openScratchDatabase();
  const by = (actorKeyId: string | null, type: EventType, subjectId = 'k') =>
    sampleEvent({ actorKeyId, type, subjectId, ...(type === 'tenant.updated' && { subjectType: 'tenant' as const }) });
  await scratch.db.ledger.commit({
    changes: [],
    events: [
      by('a', 'key.created', 'k1'),
      by('b', 'key.created', 'k2'),
      by('a', 'key.rotated', 'k2'),
      by(null, 'key.updated', 'k1'),
      by('a', 'key.revoked', 'k3'),
      by('a', 'tenant.updated', 't'),
      by('a', 'key.updated', 'k4'),
    ],
  });
  const acts = (after: number, limit: number) =>
    scratch.db.events.actsOnKeys({
      actorKeyId: 'a',
      types: ['key.created', 'key.rotated', 'key.updated'],
      after,
      limit,
    });
  const first = await acts(0, 2);
  expect(first).toEqual([
    { seq: 1, at: 1_000, type: 'key.created', tenantId: 'default', keyId: 'k1' },
    { seq: 3, at: 1_000, type: 'key.rotated', tenantId: 'default', keyId: 'k2' },
  ]);
  expect(await acts(3, 2)).toEqual([{ seq: 7, at: 1_000, type: 'key.updated', tenantId: 'default', keyId: 'k4' }]);
});
