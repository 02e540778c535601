import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Kysely, sql } from 'kysely';
import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import { scratchFolder } from '../../testing/scratch-database.ts';
import { BUSY_TOTAL_MAX_MS } from './busy-retry.ts';
import { NodeSqliteDialect } from './sqlite-dialect.ts';

interface Things {
  things: { id: number; bytes: Uint8Array | null };
}

function open(folder: string, options: { readonly clock?: Clock; readonly role?: 'writer' | 'reader' } = {}) {
  const database = new DatabaseSync(join(folder, 'a.db'));
  database.exec('pragma journal_mode = wal; pragma busy_timeout = 1');
  database.exec('create table if not exists things (id integer primary key, bytes blob) strict');
  const statements: string[] = [];
  const faults = new Map<string, Error>();
  const faulty = new Proxy(database, {
    get(target, name) {
      if (name === 'exec') {
        return (text: string): void => {
          const fault = faults.get(text);
          if (fault !== undefined) throw fault;
          target.exec(text);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const dialect = new NodeSqliteDialect({
    database: faulty,
    clock: options.clock ?? systemClock,
    role: options.role ?? 'writer',
    onStatement: (text) => statements.push(text),
  });
  const db = new Kysely<Things>({ dialect });
  return { database, db, statements, faults, [Symbol.dispose]: () => database.close() };
}

const ioError = (errcode: number): Error => Object.assign(new Error('disk'), { code: 'ERR_SQLITE_ERROR', errcode });
const add = (db: Kysely<Things>, id: number): Promise<unknown> =>
  db
    .insertInto('things')
    .values({ id, bytes: new Uint8Array([0, id]) })
    .execute();

test('a transaction takes the lock when it begins', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  await a.db.transaction().execute((transaction) => add(transaction, 1));
  expect(a.statements).toEqual(['begin immediate', 'insert into "things" ("id", "bytes") values (?, ?)', 'commit']);
});

test('bytes come back as bytes and integers as numbers', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  await a.db
    .insertInto('things')
    .values({ id: Number.MAX_SAFE_INTEGER, bytes: new Uint8Array([0, 255]) })
    .execute();
  const rows = await a.db.selectFrom('things').selectAll().execute();
  expect(rows.map((row) => ({ ...row }))).toEqual([{ id: Number.MAX_SAFE_INTEGER, bytes: new Uint8Array([0, 255]) }]);
});

test('the lock of another connection is waited for while the event loop continues', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  using b = open(folder.path);
  b.database.exec('begin immediate');
  let done = false;
  const write = a.db
    .transaction()
    .execute((transaction) => add(transaction, 1))
    .then(() => {
      done = true;
    });
  for (let turn = 0; turn < 5; turn += 1) await nextTurn();
  expect(done).toBe(false);
  b.database.exec('commit');
  await write;
  expect(a.statements.filter((text) => text === 'begin immediate').length).toBeGreaterThan(1);
});

test('a lock that is not released is an unavailable store after a bounded time', async () => {
  using folder = scratchFolder();
  let ms = 0;
  const clock: Clock = {
    now: () => 0,
    monotonicMs: () => {
      ms += BUSY_TOTAL_MAX_MS / 4;
      return ms;
    },
  };
  using a = open(folder.path, { clock });
  using b = open(folder.path);
  b.database.exec('begin immediate');
  await expect(a.db.transaction().execute((transaction) => add(transaction, 1))).rejects.toMatchObject({
    code: 'store_unavailable',
    retryAfterSeconds: 1,
  });
  expect(a.statements).toEqual(Array(4).fill('begin immediate'));
  b.database.exec('rollback');
  await a.db.transaction().execute((transaction) => add(transaction, 1));
});

test('a transaction that fails leaves nothing, and the connection can be used again', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  const failed = a.db.transaction().execute(async (transaction) => {
    await add(transaction, 1);
    await add(transaction, 1);
  });
  await expect(failed).rejects.toMatchObject({ code: 'conflict' });
  await a.db.transaction().execute((transaction) => add(transaction, 2));
  expect((await a.db.selectFrom('things').select('id').execute()).map((row) => row.id)).toEqual([2]);
});

test('a COMMIT that failed on the disk has an unknown outcome, and one without free space does not', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  a.faults.set('commit', ioError(1034));
  await expect(a.db.transaction().execute((t) => add(t, 1))).rejects.toMatchObject({ code: 'outcome_unknown' });
  a.faults.set('commit', ioError(13));
  await expect(a.db.transaction().execute((t) => add(t, 1))).rejects.toMatchObject({ code: 'store_full' });
  expect(a.database.isTransaction).toBe(false);
  a.faults.clear();
  await a.db.transaction().execute((transaction) => add(transaction, 1));
});

test('a failed rollback is reported as an error of the store', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  a.faults.set('rollback', ioError(10));
  const failed = a.db.transaction().execute(async () => {
    throw new Error('no');
  });
  await expect(failed).rejects.toMatchObject({ code: 'store_unavailable' });
  a.database.exec('rollback');
});

test('no statement runs outside of a transaction that SQLite has ended by itself', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  const ended = (after: (transaction: Kysely<Things>) => Promise<unknown>) =>
    a.db.transaction().execute(async (transaction) => {
      a.database.exec('rollback');
      await after(transaction);
    });
  await expect(ended((transaction) => add(transaction, 1))).rejects.toThrow('runs inside it');
  await expect(ended(async () => undefined)).rejects.toThrow('open until its commit');
  expect(await a.db.selectFrom('things').selectAll().execute()).toEqual([]);
});

test('a reader has no transactions, and results are never streamed', async () => {
  using folder = scratchFolder();
  using a = open(folder.path, { role: 'reader' });
  await expect(a.db.transaction().execute((transaction) => add(transaction, 1))).rejects.toThrow('a reader is never');
  await expect(a.db.selectFrom('things').selectAll().stream().next()).rejects.toThrow('read in pages');
});

test('a statement after the close fails with shutting_down', async () => {
  using folder = scratchFolder();
  const a = open(folder.path);
  a.database.close();
  const failed = a.db.selectFrom('things').selectAll().execute();
  await expect(failed).rejects.toBeInstanceOf(PantheonError);
  await expect(failed).rejects.toMatchObject({ code: 'shutting_down' });
});

test('the number of prepared statements in memory is bounded, and a removed one is prepared again', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  let prepared = 0;
  const prepare = a.database.prepare.bind(a.database);
  a.database.prepare = (text: string) => {
    prepared += 1;
    return prepare(text);
  };
  const ask = (n: number) => sql`select ${sql.lit(n)} as n`.execute(a.db);
  for (let n = 0; n < 257; n += 1) await ask(n);
  await ask(256);
  expect(prepared).toBe(257);
  await ask(0);
  expect(prepared).toBe(258);
});

test('destroying Kysely does not close the connection', async () => {
  using folder = scratchFolder();
  using a = open(folder.path);
  await add(a.db, 1);
  expect((await a.db.introspection.getTables()).map((table) => table.name)).toEqual(['things']);
  await a.db.destroy();
  expect(a.database.isOpen).toBe(true);
});
