import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import { systemClock } from '../foundation/clock.ts';
import { scratchFolder } from '../testing/scratch-database.ts';
import { sqlite } from './dialect.ts';
import { migrate } from './schema.ts';
import { NodeSqliteDialect } from './sqlite-dialect.ts';
import type { Tables } from './tables.ts';

function connect(folder: string) {
  const database = new DatabaseSync(join(folder, 'a.db'));
  database.exec('pragma journal_mode = wal');
  const dialect = new NodeSqliteDialect({ database, clock: systemClock, role: 'writer', onStatement: null });
  const names = () => database.prepare('select name from sqlite_master').all();
  return { database, db: new Kysely<Tables>({ dialect }), names, [Symbol.dispose]: () => database.close() };
}

test('a migration that finds no room leaves no table behind, and runs when there is', async () => {
  using folder = scratchFolder();
  using a = connect(folder.path);
  a.database.exec('pragma max_page_count = 10');
  await expect(migrate(a.db, sqlite, 'a.db')).rejects.toMatchObject({ code: 'store_full' });
  expect(a.names()).toEqual([]);
  a.database.exec('pragma max_page_count = 10000');
  await migrate(a.db, sqlite, 'a.db');
  expect(a.names().length).toBeGreaterThan(15);
});

test('two that migrate at once: one does, the other waits and finds it done', async () => {
  using folder = scratchFolder();
  using a = connect(folder.path);
  using b = connect(folder.path);
  await Promise.all([migrate(a.db, sqlite, 'a.db'), migrate(b.db, sqlite, 'a.db'), migrate(a.db, sqlite, 'a.db')]);
  expect(a.database.prepare('select name from kysely_migration').all()).toHaveLength(1);
  expect({ ...b.database.prepare('select seq, at from log_head').get() }).toEqual({ seq: 0, at: 0 });
});
