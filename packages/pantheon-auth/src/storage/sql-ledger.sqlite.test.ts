/** What the ledger does to a file of SQLite; its promises are `sql-ledger.test.ts`, for every database. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import { systemClock } from '../foundation/clock.ts';
import { insertTenant, openScratchDatabase, sampleEvent, scratchFolder } from '../testing/scratch-database.ts';
import { sqlite } from './dialect.ts';
import { migrate } from './migrations/schema.ts';
import { SqlLedger } from './sql-ledger.ts';
import { NodeSqliteDialect } from './sqlite/sqlite-dialect.ts';
import type { Tables } from './tables.ts';
import { WriteQueue } from './write-queue.ts';

test('the head and the events come last, in the same transaction (I3)', async () => {
  await using scratch = await openScratchDatabase();
  scratch.statements.length = 0;
  const answered = { tenant_id: 'default', caller: 'process', idempotency_key: 'k', request_hash: 'h', key_id: 'id' };
  const row = { ...answered, version: 1, created_at: 1 };
  await scratch.db.ledger.commit({
    changes: [insertTenant()],
    events: [sampleEvent()],
    idempotencyRecords: [{ table: 'idempotency', row }],
  });
  expect(scratch.statements.map((text) => text.split(' ').slice(0, 3).join(' '))).toEqual([
    'begin immediate',
    'insert into "tenants"',
    'insert into "idempotency"',
    'insert into "event_details"',
    'update "log_head" set',
    'insert into "events"',
    'commit',
  ]);
});

test('the log only grows: its events cannot be changed or removed, and it has one head', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent()] });
  using raw = new DatabaseSync(scratch.path);
  expect(() => raw.exec(`update events set body = '{}'`)).toThrow('append-only');
  expect(() => raw.exec('delete from events')).toThrow('append-only');
  expect(() => raw.exec('insert or replace into events select * from events')).toThrow('append-only');
  expect(() =>
    raw.exec(`insert into events select 3, 'x', at, '', '', '', '', '', leaf, leaf, null from events`),
  ).toThrow('append-only');
  expect(() => raw.exec('insert into log_head values (2, 0, 0)')).toThrow('log_head_is_one_row');
});

async function openedByHand(folder: string) {
  const database = new DatabaseSync(join(folder, 'a.db'));
  database.exec('pragma journal_mode = wal');
  const dialect = new NodeSqliteDialect({ database, clock: systemClock, role: 'writer', onStatement: null });
  const db = new Kysely<Tables>({ dialect });
  await migrate({ db, dialect: sqlite, name: 'a.db' });
  const lane = { db, atOnceMax: 1 };
  const ledger = new SqlLedger(new WriteQueue({ ordinary: lane, protective: lane }, systemClock), sqlite);
  return { database, db, ledger, [Symbol.dispose]: () => database.close() };
}

test('a full disk is reported as such, loses nothing, and the next commit works when there is space', async () => {
  using folder = scratchFolder();
  using opened = await openedByHand(folder.path);
  const { database, db, ledger } = opened;
  const { page_count: pages } = database.prepare('pragma page_count').get() as { page_count: number };
  database.exec(`pragma max_page_count = ${pages + 2}`);
  const big = () => ledger.commit({ changes: [], events: [sampleEvent({ personal: new Uint8Array(100_000) })] });
  await expect(big()).rejects.toMatchObject({ code: 'store_full' });
  expect(await db.selectFrom('event_details').selectAll().execute()).toEqual([]);
  database.exec('pragma max_page_count = 1000000');
  expect(await big()).toEqual({ seq: 1 });
});

test('a store that cannot be written is reported as such', async () => {
  using folder = scratchFolder();
  using opened = await openedByHand(folder.path);
  opened.database.exec('pragma query_only = on');
  const commit = opened.ledger.commit({ changes: [], events: [sampleEvent()] });
  await expect(commit).rejects.toMatchObject({ code: 'store_read_only' });
});
