/** What the ledger rests on in PostgreSQL: locks, triggers and states. Its promises are `sql-ledger.test.ts`. */
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../test/store.ts';
import type { Commit, RowChange } from '../events/ledger.ts';
import { insertKey, insertTenant, sampleEvent, sampleKey } from '../testing/scratch-database.ts';

const POLL_MS = 5;

/** Waits until this many statements on the database wait for a lock. */
async function blocked(scratch: ScratchDatabase, count: number): Promise<void> {
  const waiting = `
    select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  // Within a transaction the server would show what it showed before.
  const look = async (): Promise<unknown> => {
    await scratch.sql('select pg_stat_clear_snapshot()');
    return (await scratch.sql(waiting))[0]?.['n'];
  };
  while ((await look()) !== count) await pause(POLL_MS);
}

const renameKey: RowChange = {
  kind: 'update',
  table: 'api_keys',
  where: { id: 'k'.repeat(16), tenant_id: 'default' },
  set: { name: 'new' },
  expectedRevision: 1,
};

function rename(name: string, expectedRevision: number, id = 'default'): RowChange {
  return { kind: 'update', table: 'tenants', where: { id }, set: { name }, expectedRevision };
}

/** The key that others rely on. */
const KEY_ID = 'k'.repeat(16);
const withKey = (): RowChange[] => [insertTenant(), ...insertKey(sampleKey({ id: KEY_ID }))];
const relyingOn = (revision: number): Commit => ({
  changes: [],
  preconditions: [{ kind: 'row', table: 'api_keys', where: { id: KEY_ID, tenant_id: 'default' }, revision }],
  events: [sampleEvent()],
});

test('the head and the events are the last statement before the COMMIT, and one statement (I3)', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  scratch.statements.length = 0;
  await scratch.db.ledger.commit({
    ...relyingOn(1),
    changes: [rename('new', 1), renameKey],
    events: Array.from({ length: 120 }, () => sampleEvent()) as unknown as Commit['events'],
  });
  const texts = scratch.statements.map((text) => text.trim().split(/\s+/).slice(0, 3).join(' '));
  expect([texts[0], ...texts.slice(-2)]).toEqual(['begin', 'with head as', 'commit']);
  expect(texts.filter((text) => /head|"?events"?$/.test(text))).toEqual(['with head as']);
});

test('a commit waits for a change of a required row that is in progress, and then gets a conflict', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  await scratch.sql('begin');
  await scratch.sql('update api_keys set revision = 2');
  const outcome = Promise.allSettled([scratch.db.ledger.commit(relyingOn(1))]);
  await blocked(scratch, 1);
  await scratch.sql('commit');
  expect(await outcome).toMatchObject([{ status: 'rejected', reason: { code: 'conflict' } }]);
  expect(await scratch.db.log.head()).toMatchObject({ seq: 1 });
});

test('a change of a required row that is rolled back is no conflict', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  await scratch.sql('begin');
  await scratch.sql('update api_keys set revision = 2');
  const outcome = scratch.db.ledger.commit(relyingOn(1));
  await blocked(scratch, 1);
  await scratch.sql('rollback');
  expect(await outcome).toEqual({ seq: 2 });
});

test('a required row stays unchanged until the commit that requires it has ended; a change of it comes after', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  const other = await scratch.openAgain();
  // Holds back everybody who is at the last statement.
  await scratch.sql('begin');
  await scratch.sql('select from log_head for update');
  const relying = [scratch.db.ledger.commit(relyingOn(1)), other.ledger.commit(relyingOn(1))];
  await blocked(scratch, 2);
  const changing = other.ledger.commit({ changes: [renameKey], events: [sampleEvent()] });
  await blocked(scratch, 3);
  await scratch.sql('commit');
  const places = (await Promise.all(relying)).map(({ seq }) => seq);
  expect(places.toSorted()).toEqual([2, 3]);
  expect(await changing).toEqual({ seq: 4 });
});

test('changes that require each other do not wait for each other: one is made first, or is the only one', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  const names = ['a', 'b'] as const;
  const keys = names.map((name) => sampleKey({ id: name.repeat(16) }));
  const changes = [insertTenant(), ...keys.flatMap(insertKey)];
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  const key = (at: number) => ({ id: names[at]?.repeat(16) ?? '', tenant_id: 'default' });
  const deadlocks = async (): Promise<unknown> =>
    (await scratch.sql('select deadlocks from pg_stat_database where datname = current_database()'))[0]?.['deadlocks'];
  const before = await deadlocks();
  // Two that end each other, each by its own key.
  const end = (one: number, another: number, revision: number): Commit => ({
    preconditions: [{ kind: 'row', table: 'api_keys', where: key(one), revision }],
    changes: [
      { kind: 'update', table: 'api_keys', where: key(another), set: { name: 'x' }, expectedRevision: revision },
    ],
    events: [sampleEvent()],
  });
  let revisions = [1, 1];
  for (let round = 0; round < 15; round += 1) {
    const same = Math.max(...revisions);
    await scratch.sql('update api_keys set revision = ?', same);
    const outcomes = await Promise.allSettled([
      scratch.db.ledger.commit(end(0, 1, same)),
      other.ledger.commit(end(1, 0, same)),
    ]);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'conflict' });
    revisions = (await scratch.sql('select revision from api_keys order by id')).map((row) => Number(row['revision']));
  }
  // The server tells them a moment later.
  await pause(1_100);
  expect(await deadlocks()).toBe(before);
});

test('several commits that require a row and change it are made one after the other', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, n) =>
      (n % 2 === 0 ? scratch.db : other).ledger.commit({ ...relyingOn(1), changes: [renameKey] }),
    ),
  );
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'conflict' });
});

test('if two commits wait for each other all the same, one continues and the other gets a conflict', async () => {
  await using scratch = await openScratchDatabase();
  const tenants = ['a', 'b'].map((id) => insertTenant({ id, tenant_id: id }));
  await scratch.db.ledger.commit({ changes: tenants, events: [sampleEvent()] });
  await scratch.sql('begin');
  await scratch.sql(`update tenants set name = 'x' where id = 'b'`);
  const changes = [rename('new', 1, 'a'), rename('new', 1, 'b')];
  const commit = Promise.allSettled([scratch.db.ledger.commit({ changes, events: [sampleEvent()] })]);
  await blocked(scratch, 1);
  const crossing = Promise.allSettled([scratch.sql(`update tenants set name = 'x' where id = 'a'`)]);
  const [ours, theirs] = [(await commit)[0], (await crossing)[0]];
  // Whoever looks first is the victim.
  if (ours?.status === 'rejected') expect(ours.reason).toMatchObject({ code: 'conflict' });
  else expect(theirs?.status).toBe('rejected');
  await scratch.sql('rollback');
});

test('a number that another transaction has taken is waited for, and is a conflict only if that commits', async () => {
  await using scratch = await openScratchDatabase();
  for (const [end, code] of [
    ['commit', 'conflict'],
    ['rollback', null],
  ] as const) {
    const id = `t-${end}`;
    await scratch.sql('begin');
    await scratch.sql(`insert into tenants values (?1, ?1, 'x', 'active', 1, 1)`, id);
    const making = Promise.allSettled([
      scratch.db.ledger.commit({ changes: [insertTenant({ id, tenant_id: id })], events: [sampleEvent()] }),
    ]);
    await blocked(scratch, 1);
    await scratch.sql(end);
    const [outcome] = await making;
    expect(outcome?.status === 'rejected' ? outcome.reason.code : null).toBe(code);
  }
});

test('the log only grows: its events cannot be changed, removed or left out, and it has one head (I2)', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent(), sampleEvent()] });
  const place = (seq: string): string =>
    `insert into events select ${seq}, 'x', at, '', '', '', '', '', leaf, leaf from events where seq = 1`;
  for (const sql of [
    `update events set body = '{}'`,
    'delete from events',
    'delete from events where false',
    'truncate events',
    place('4'),
    place('0'),
    place('1'),
    `insert into events select 1, id, at, '', '', '', '', '', leaf, leaf from events where seq = 1
     on conflict (seq) do update set body = 'x'`,
    `merge into events e using (select 1 as seq) n on e.seq = n.seq when matched then delete`,
  ])
    await expect(scratch.sql(sql), sql).rejects.toThrow('append-only');
  await expect(scratch.sql('insert into log_head values (2, 0, 0)')).rejects.toThrow('log_head_is_one_row');
  expect(await scratch.db.log.head()).toMatchObject({ seq: 2 });
});

test('a commit whose event number was taken outside of the service fails as a whole, and not as a conflict', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent()] });
  // The head was set back by hand: the log is damaged, and asking again would not help.
  await scratch.sql('update log_head set seq = 0');
  const commit = scratch.db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  await expect(commit).rejects.toThrow('append-only');
  expect(await scratch.db.tenants.find('default')).toBeNull();
});

test.each([
  [
    'a token is revoked',
    `insert into token_revocations values ('t', 'default', '${KEY_ID}', 1, 1)`,
    { kind: 'absent', table: 'token_revocations', where: { jti: 't' } },
  ],
  [
    'a tenant is suspended',
    `update tenants set state = 'suspended', revision = 2`,
    { kind: 'row', table: 'tenants', where: { id: 'default' }, revision: 1 },
  ],
] as const)(
  '%s by a commit that has locked the head: a commit that requires that row waits for it, and then gets a conflict',
  async (_what, change, required) => {
    await using scratch = await openScratchDatabase();
    await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
    for (const end of ['rollback', 'commit'] as const) {
      await scratch.sql('begin');
      await scratch.sql('select from log_head for update');
      const commit = { changes: [], preconditions: [required], events: [sampleEvent()] } satisfies Commit;
      const outcome = Promise.allSettled([scratch.db.ledger.commit({ ...commit, events: [sampleEvent()] })]);
      // It is at the head by now: whatever it had read before would be what was true before.
      await blocked(scratch, 1);
      await scratch.sql(change);
      await scratch.sql(end);
      const expected =
        end === 'commit' ? { status: 'rejected', reason: { code: 'conflict' } } : { status: 'fulfilled', value: {} };
      expect(await outcome, end).toMatchObject([expected]);
    }
  },
);

test('many commits that require the same tenant do not wait for each other before the head', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  await scratch.db.ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  await scratch.sql('begin');
  await scratch.sql('select from tenants for update');
  const preconditions = [{ kind: 'row', table: 'tenants', where: { id: 'default' }, revision: 1 }] as const;
  const commits = [scratch.db, other, scratch.db].map(({ ledger }) =>
    ledger.commit({ changes: [], preconditions, events: [sampleEvent()] }),
  );
  expect((await Promise.all(commits)).map(({ seq }) => seq).toSorted()).toEqual([2, 3, 4]);
  await scratch.sql('rollback');
});

test('a revocation has connections of its own: it is committed while all other writes wait', async () => {
  await using scratch = await openScratchDatabase();
  const { ledger, log } = scratch.db;
  await ledger.commit({ changes: withKey(), events: [sampleEvent()] });
  await scratch.sql('begin');
  await scratch.sql('update api_keys set revision = 2');
  // More than there are connections, all of them behind the row that is held.
  const settled = Promise.allSettled(Array.from({ length: 100 }, () => ledger.commit(relyingOn(2))));
  await blocked(scratch, 4);
  expect(await ledger.commit({ changes: [], events: [sampleEvent({ type: 'key.revoked' })] })).toEqual({ seq: 2 });
  await scratch.sql('commit');
  await settled;
  expect((await log.head()).seq).toBe(102);
});
