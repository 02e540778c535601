import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import { systemClock } from '../../foundation/clock.ts';
import { scratchFolder } from '../../testing/scratch-database.ts';
import { sqlite } from '../dialect.ts';
import { NodeSqliteDialect } from '../sqlite/sqlite-dialect.ts';
import type { Tables } from '../tables.ts';
import { migrations, SCHEMA_MIN } from './migrations.ts';
import { assertSchema, migrate } from './schema.ts';

function connect(folder: string) {
  const database = new DatabaseSync(join(folder, 'a.db'));
  database.exec('pragma journal_mode = wal');
  const kyselyDialect = new NodeSqliteDialect({ database, clock: systemClock, role: 'writer', onStatement: null });
  const names = () => database.prepare('select name from sqlite_master').all();
  const db = new Kysely<Tables>({ dialect: kyselyDialect });
  return { database, db, dialect: sqlite, name: 'a.db', names, [Symbol.dispose]: () => database.close() };
}

test('a migration without free disk space leaves no table behind, and runs when there is space', async () => {
  using folder = scratchFolder();
  using a = connect(folder.path);
  a.database.exec('pragma max_page_count = 10');
  await expect(migrate(a)).rejects.toMatchObject({ code: 'store_full' });
  expect(a.names()).toEqual([]);
  a.database.exec('pragma max_page_count = 10000');
  await migrate(a);
  expect(a.names().length).toBeGreaterThan(15);
});

test('of two processes that migrate at once, one does, and the other waits and finds it done', async () => {
  using folder = scratchFolder();
  using a = connect(folder.path);
  using b = connect(folder.path);
  await Promise.all([migrate(a), migrate(b), migrate(a)]);
  expect(a.database.prepare('select name from kysely_migration').all()).toHaveLength(
    Object.keys(migrations(sqlite)).length,
  );
  expect({ ...b.database.prepare('select seq, at from log_head').get() }).toEqual({ seq: 0, at: 0 });
});

test('a version works with its own tables and those of the previous version, and says what to do about others', async () => {
  using folder = scratchFolder();
  using a = connect(folder.path);
  const addsColumn = (column: string) => ({
    up: async (db: Kysely<unknown>) => {
      await db.schema.alterTable('meta').addColumn(column, 'text').execute();
    },
  });
  const first = migrations(sqlite);
  const second = { ...first, '0006-a': addsColumn('a') };
  const third = { ...second, '0007-b': addsColumn('b') };
  await expect(assertSchema(a)).rejects.toMatchObject({ code: 'schema_too_old' });
  const { [SCHEMA_MIN]: _last, ...before } = first;
  expect(await migrate({ ...a, known: before })).toEqual([
    '0001-tables',
    '0002-second-tables',
    '0003-background-work',
    '0004-signing-keys',
  ]);
  await expect(assertSchema(a)).rejects.toThrow(/lacks 1 migration\(s\). Run: pantheon-auth migrate/);
  await assertSchema({ ...a, oldest: '0004-signing-keys' });
  expect(await migrate(a)).toEqual([SCHEMA_MIN]);
  await assertSchema(a);
  await assertSchema({ ...a, known: second });
  await expect(assertSchema({ ...a, known: third })).rejects.toThrow(
    /lacks 2 migration\(s\). Run: pantheon-auth migrate/,
  );
  expect(await migrate({ ...a, known: third })).toEqual(['0006-a', '0007-b']);
  expect(await migrate({ ...a, known: third })).toEqual([]);
  await assertSchema({ ...a, known: third });
  await expect(assertSchema({ ...a, known: second })).rejects.toMatchObject({ code: 'schema_too_new' });
  await expect(migrate({ ...a, known: second })).rejects.toMatchObject({ code: 'schema_too_new' });
});
