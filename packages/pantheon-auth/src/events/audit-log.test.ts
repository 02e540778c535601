import { expect, test } from 'vitest';
import { callerWith, keyAndCaller } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { changeLog } from '../../test/store.ts';
import { openTestEngine } from '../../test/test-engine.ts';
import { EVENTS_PAGE_MAX } from './event-codec.ts';

const INPUT = { userId: 'u', name: 'n' };

test('a tenant reads its own events, in the order asked for, filtered, page by page', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { apiKey } = await auth.keys.create(INPUT);
  await auth.keys.suspend(apiKey.id);
  await auth.keys.resume(apiKey.id);
  await auth.keys.create(INPUT);
  const subject = { subjectType: 'key', subjectId: apiKey.id } as const;
  const typesOf = async (filter: object) => (await auth.events.list('default', filter)).items.map(({ type }) => type);
  expect(await typesOf({ ...subject, order: 'oldest_first' })).toEqual(['key.created', 'key.suspended', 'key.resumed']);
  expect(await typesOf(subject)).toEqual(['key.resumed', 'key.suspended', 'key.created']);
  const { items } = await auth.events.list('default', { ...subject, limit: 1 });
  expect(items).toMatchObject([{ subjects: [{ type: 'key', id: apiKey.id }] }]);
  expect(await typesOf({ type: 'key.created' })).toEqual(['key.created', 'key.created']);
  const pages: unknown[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const page = await auth.events.list('default', { limit: 2, subjectType: 'key', ...(cursor !== '' && { cursor }) });
    pages.push(page.items.length);
    cursor = page.nextCursor;
  }
  expect(pages).toEqual([2, 2]);
  const [first] = (await auth.events.list('default', { limit: 1 })).items;
  expect(first?.at).toEqual(new Date(engine.clock.now()));
});

test('the number of an event is shown to the system tenant only: it would reveal how many events others have', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.keys.create(INPUT);
  const see = async (by?: ReturnType<typeof callerWith>) =>
    (await auth.events.list('default', {}, by === undefined ? {} : { by })).items.map((event) => 'seq' in event);
  expect(await see()).not.toContain(false);
  const permissions = ['pantheon:events:read'];
  expect(await see((await keyAndCaller(engine, 'system', { permissions })).by)).not.toContain(false);
  expect(await see((await keyAndCaller(engine, 'default', { permissions })).by)).not.toContain(true);
});

test('reading needs the permission, and other tenants do not exist (I10)', async () => {
  await using engine = await openTestEngine();
  const { events } = engine.auth;
  expect((await refusalOf(events.list('default', {}, { by: callerWith({ permissions: [] }) }))).code).toBe(
    'insufficient_permissions',
  );
  const by = callerWith({ tenantId: 'acme' });
  const foreign = await refusalOf(events.list('default', {}, { by }));
  const neverMade = await refusalOf(events.list('never-made', {}, { by }));
  expect([foreign.code, foreign.message]).toEqual(['not_found', neverMade.message]);
});

test('an invalid filter is refused with its field', async () => {
  await using engine = await openTestEngine();
  const { events } = engine.auth;
  for (const limit of [0, -1, 1.5, Number.NaN, EVENTS_PAGE_MAX + 1])
    expect((await refusalOf(events.list('default', { limit }))).field).toBe('limit');
  for (const type of ['', 'key', 'toString', 'key.made'])
    expect((await refusalOf(events.list('default', { type }))).field).toBe('type');
  expect((await events.list('default', { limit: EVENTS_PAGE_MAX })).nextCursor).toBeNull();
});

test('a damaged event is shown as damaged, also on a later page, and the rest of the page is shown', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const ids: string[] = [];
  for (let n = 0; n < 3; n += 1) ids.push((await auth.keys.create(INPUT)).apiKey.id);
  await changeLog(
    engine,
    `update events set body = replace(body, '"type":', '"tipe":') where subject_id = ?`,
    ids[1] ?? '',
  );
  const { items } = await auth.events.list('default', { subjectType: 'key' });
  expect(items.map(({ subject, damaged }) => [subject.id, damaged])).toEqual([
    [ids[2], undefined],
    [ids[1], true],
    [ids[0], undefined],
  ]);
  const [, damaged] = items;
  expect(damaged).toMatchObject({ type: 'key.created', at: new Date(engine.clock.now()), tenantId: 'default' });
  expect(JSON.stringify(damaged)).not.toMatch(/tipe|permissions|actor/);
  const page = await auth.events.list('default', { subjectType: 'key', limit: 2 });
  expect(page.items).toHaveLength(2);
  expect(page.nextCursor).not.toBeNull();
});
