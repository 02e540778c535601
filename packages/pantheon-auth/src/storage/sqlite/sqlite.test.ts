import { chmodSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import { expect, test, vi } from 'vitest';
import { type Clock, systemClock } from '../../foundation/clock.ts';
import { insertTenant, openScratchDatabase, sampleEvent, scratchFolder } from '../../testing/scratch-database.ts';
import { columnsOf } from '../rows/columns.ts';
import { BUSY_TOTAL_MAX_MS } from './busy-retry.ts';
import { openSqlite, type SqliteOptions } from './sqlite.ts';

const open = (path: string, over: Partial<SqliteOptions> = {}) => openSqlite({ path, clock: systemClock, ...over });

/** A clock on which a few questions take longer than anyone waits. */
function hastyClock(): Clock {
  let ms = 0;
  return {
    now: () => 0,
    monotonicMs: () => {
      ms += BUSY_TOTAL_MAX_MS / 4;
      return ms;
    },
  };
}

test('a new database has mode 0600, and so have the files that SQLite puts beside it', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.meta.insertOnce('a', '1');
  const modes = readdirSync(scratch.folder).map((name) => [name, statSync(join(scratch.folder, name)).mode & 0o777]);
  expect(modes).toEqual([
    ['test.db', 0o600],
    ['test.db-shm', 0o600],
    ['test.db-wal', 0o600],
  ]);
});

test('stored data is there after closing and opening again, in one file', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  await Promise.all([scratch.db.close(), scratch.db.close()]);
  expect(readdirSync(scratch.folder)).toEqual(['test.db']);
  const again = await scratch.openAgain();
  expect(await again.tenants.find('default')).toMatchObject({ id: 'default' });
  expect(await again.log.head()).toMatchObject({ seq: 1 });
});

test('closing succeeds if the WAL cannot be truncated, and its content is there at the next start', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.meta.insertOnce('a', '1');
  const exec = vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(() => {
    throw Object.assign(new Error('disk'), { errcode: 13 });
  });
  await scratch.db.close().finally(() => exec.mockRestore());
  expect(await (await scratch.openAgain()).meta.get('a')).toBe('1');
});

test('closing waits for accepted writes, and later ones fail with shutting_down', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const write = db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  const close = db.close();
  await expect(db.ledger.commit({ changes: [], events: [sampleEvent()] })).rejects.toMatchObject({
    code: 'shutting_down',
  });
  expect(await write).toEqual({ seq: 1 });
  await close;
  await expect(db.meta.get('a')).rejects.toMatchObject({ code: 'shutting_down' });
  expect(await (await scratch.openAgain()).tenants.find('default')).toMatchObject({ id: 'default' });
});

test('of several values for one entry the first stays, for every node', async () => {
  await using scratch = await openScratchDatabase();
  const other = await scratch.openAgain();
  expect(await scratch.db.meta.get('id')).toBeNull();
  const values = await Promise.all([scratch.db.meta.insertOnce('id', 'a'), other.meta.insertOnce('id', 'b')]);
  expect(new Set(values).size).toBe(1);
  expect(await scratch.db.meta.insertOnce('id', 'c')).toBe(values[0]);
  expect(await other.meta.get('id')).toBe(values[0]);
});

test('a read never waits for a write that holds the lock', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.meta.insertOnce('a', '1');
  using raw = new DatabaseSync(scratch.path);
  raw.exec(`begin immediate; update meta set value = '2'`);
  expect(await scratch.db.meta.get('a')).toBe('1');
  expect(scratch.db.log.headSync?.()).toMatchObject({ seq: 0 });
  raw.exec('commit');
  expect(await scratch.db.meta.get('a')).toBe('2');
});

test('a commit waits for the disk, references are checked, and a lock never blocks for long', async () => {
  const exec = vi.spyOn(DatabaseSync.prototype, 'exec');
  await using scratch = await openScratchDatabase();
  const pragmas = exec.mock.calls.map(([text]) => text);
  exec.mockRestore();
  expect(pragmas).toEqual(expect.arrayContaining(['pragma synchronous = full', 'pragma foreign_keys = on']));
  const timeouts = pragmas.flatMap((text) => /busy_timeout = (\d+)/.exec(text)?.[1] ?? []).map(Number);
  expect(timeouts).toHaveLength(2);
  expect(Math.max(...timeouts)).toBeLessThanOrEqual(20);
  using raw = new DatabaseSync(scratch.path);
  expect({ ...raw.prepare('pragma journal_mode').get() }).toEqual({ journal_mode: 'wal' });
});

test('a file that others could read gets mode 0600, and a warning is logged', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.close();
  chmodSync(scratch.path, 0o644);
  await scratch.openAgain();
  expect(statSync(scratch.path).mode & 0o777).toBe(0o600);
  await expect(open(scratch.path).then((db) => db.close())).resolves.toBeUndefined();
  chmodSync(scratch.path, 0o640);
  const warnings: string[] = [];
  await scratch.openAgain({ onWarning: (warning) => warnings.push(warning) });
  expect(warnings).toEqual([expect.stringContaining(scratch.path)]);
});

test.each([
  ['text', 'this is not a database at all, it is text '.repeat(50), /file is not a database/],
  [
    'a damaged header',
    Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(4_080, 7)]),
    /is damaged: file is not a database.*restore a backup/,
  ],
])('%s in place of a database is refused and not changed', async (_name, content, message) => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  writeFileSync(path, content, { mode: 0o600 });
  const failed = open(path);
  await expect(failed).rejects.toMatchObject({ code: 'store_unusable' });
  await expect(failed).rejects.toThrow(message);
  await expect(failed).rejects.toThrow(path);
  expect(statSync(path).size).toBe(content.length);
});

test('the database of another program is refused, and nothing is added to it', async () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  using raw = new DatabaseSync(path);
  raw.exec('create table customers (id integer)');
  await expect(open(path)).rejects.toThrow(/store_unusable: .*another program/);
  const tables = () =>
    raw
      .prepare('select name from sqlite_master')
      .all()
      .map((row) => row['name']);
  expect(tables()).toEqual(['customers']);
});

test('a database that a newer version has written is refused', async () => {
  await using scratch = await openScratchDatabase();
  using raw = new DatabaseSync(scratch.path);
  raw.exec(`insert into kysely_migration values ('9999-later', '2030-01-01T00:00:00.000Z')`);
  await expect(open(scratch.path)).rejects.toMatchObject({ code: 'schema_too_new' });
});

test('a database that another process holds is refused after a bounded time, with the reason', async () => {
  await using scratch = await openScratchDatabase();
  using raw = new DatabaseSync(scratch.path);
  raw.exec('begin immediate');
  const failed = open(scratch.path, { clock: hastyClock() });
  await expect(failed).rejects.toMatchObject({ code: 'store_unusable' });
  await expect(failed).rejects.toThrow(/database is locked.*nothing else holds it/);
});

test.each(['', ':memory:'])('the path %j is refused: two connections would be two databases', async (path) => {
  await expect(open(path)).rejects.toThrow(/store_unusable: .*path of a file/);
});

test.each([
  ['a full disk', 13, /store_unusable: .*the disk is full/],
  ['a disk that fails', 10, /store_unusable: .*cannot be opened .*nothing else holds it/],
])('%s at the start is one clear error, and nothing stays open', async (_name, errcode, message) => {
  using folder = scratchFolder();
  const close = vi.spyOn(DatabaseSync.prototype, 'close');
  const exec = vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation((text) => {
    if (text.startsWith('pragma synchronous')) throw Object.assign(new Error('disk'), { errcode });
  });
  const failed = open(join(folder.path, 'a.db'));
  await expect(failed)
    .rejects.toThrow(message)
    .finally(() => exec.mockRestore());
  expect(close).toHaveBeenCalledTimes(1);
  close.mockRestore();
});

test('any other error at the start keeps its own code', async () => {
  using folder = scratchFolder();
  const exec = vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(() => {
    throw Object.assign(new Error('x'), { errcode: 2067 });
  });
  await expect(open(join(folder.path, 'a.db')))
    .rejects.toMatchObject({ code: 'conflict' })
    .finally(() => exec.mockRestore());
});

test('an internal error at the start is not reported as a damaged file', async () => {
  using folder = scratchFolder();
  const onStatement = (): void => {
    throw new TypeError('ours');
  };
  await expect(open(join(folder.path, 'a.db'), { onStatement })).rejects.toThrow(TypeError);
});

test('a file system on which two connections cannot share memory is refused', async () => {
  using folder = scratchFolder();
  const get = vi.spyOn(StatementSync.prototype, 'get').mockReturnValue({ journal_mode: 'delete' });
  await expect(open(join(folder.path, 'a.db')))
    .rejects.toThrow(/store_unusable: .*Use a local disk/)
    .finally(() => get.mockRestore());
});

test('a path is used literally, whatever it looks like', async () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'file:a.db?mode=memory');
  await (await open(path)).close();
  expect(readdirSync(folder.path)).toEqual(['file:a.db?mode=memory', 'file:a.db?mode=memory-reserve']);
  symlinkSync(path, join(folder.path, 'link'));
  await expect(open(join(folder.path, 'link'))).rejects.toMatchObject({ code: 'store_unusable' });
});

test('every table is strict, and access state has the columns of its row types', async () => {
  await using scratch = await openScratchDatabase();
  using raw = new DatabaseSync(scratch.path);
  const tables = raw.prepare(`select name, strict from pragma_table_list where schema = 'main'`).all();
  const ours = tables.filter((table) => !/^(sqlite|kysely)_/.test(String(table['name'])));
  expect(ours).toHaveLength(23);
  expect(ours.every((table) => table['strict'] === 1)).toBe(true);
  const columns = raw.prepare('select name from pragma_table_info(?)');
  for (const table of [
    'tenants',
    'api_keys',
    'api_key_versions',
    'signing_keys',
    'token_revocations',
    'id_tag_secrets',
    'next_secrets',
  ] as const) {
    const stored = columns.all(table).map((column) => String(column['name']));
    expect(stored.toSorted()).toEqual(columnsOf(table).toSorted());
  }
});

test('every page of a list and every lookup is one range of an index', async () => {
  await using scratch = await openScratchDatabase();
  const { db, statements } = scratch;
  const list = {
    tenantId: 'a',
    userId: null,
    state: null,
    environment: null,
    text: null,
    limit: 9,
    now: 1,
  };
  const after = { createdAt: 1, id: 'x' };
  statements.length = 0;
  await db.keys.find('x');
  await db.keys.list({ ...list, after });
  await db.keys.list({ ...list, after, userId: 'u' });
  await db.keys.list({ ...list, after, state: 'expired', environment: 'live', text: 'x' });
  await db.keys.childrenOf('c', after, 9);
  await db.tokenRevocations.unexpired(1, { expiresAt: 2, jti: 'x' }, 9);
  const events = { tenantId: 'a', type: null, subjectType: null, subjectId: null, after: 3, limit: 9 } as const;
  await db.events.list({ ...events, order: 'newest_first' });
  await db.events.list({ ...events, order: 'newest_first', type: 'key.created' });
  await db.events.list({ ...events, order: 'newest_first', subjectType: 'key' });
  await db.events.list({ ...events, order: 'newest_first', subjectId: 'x' });
  await db.events.list({ ...events, order: 'oldest_first', type: 'key.created', subjectType: 'key', subjectId: 'x' });
  await db.events.lastSeq('a', 'key.created');
  await db.events.lastSeq('a', 'key.created', 'x');
  await db.keySchedules.isAnyDue(1);
  for (const exceptTenants of [[], ['b', 'c']]) await db.keySchedules.due(1, { exceptTenants, limit: 9 });
  await db.nextSecrets.find('a', 'x');
  for (const keyId of [null, 'k']) {
    for (const step of ['minute', 'hour', 'day'] as const)
      await db.usage.sums({ tenantId: 'a', keyId, step, from: 0, to: 1 });
  }
  for (const step of ['minute', 'hour', 'day'] as const) await db.usage.prune(step, 1, 9);
  const uses = Array.from({ length: 10 }, (_, n) => ({ tenantId: 'a', keyId: 'x', version: n + 1 }));
  const last = { count: 1, lastUsedAt: 1, addresses: [] };
  await db.usage.store({ id: 'b', at: 1, counts: [], uses: uses.map((use) => ({ ...use, ...last })) });
  await db.usage.foldVersions(9);
  await db.usage.totalsOf('a', ['x', 'y']);
  await db.usage.ofKey('a', 'x');
  using raw = new DatabaseSync(scratch.path);
  for (const text of statements.filter((one) => !/^(begin|commit|insert)/.test(one))) {
    const plan = raw
      .prepare(`explain query plan ${text}`)
      .all()
      .map((row) => String(row['detail']));
    // A slice is what the index gave.
    const isPage = text.startsWith('with "slice"');
    const tables = plan.filter(
      // A list that was given as a parameter.
      (step) => /^(SEARCH|SCAN)/.test(step) && !/^SCAN json_each/.test(step) && !(isPage && step === 'SCAN slice'),
    );
    expect(tables.filter((step) => step.startsWith('SCAN'))).toEqual([]);
    expect(tables.length).toBeGreaterThan(0);
  }
});
