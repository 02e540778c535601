import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { openScratchDatabase, sampleEvent } from '../testing/scratch-database.ts';
import { SqliteDamage } from './sqlite-damage.ts';
import { SqliteReaderThread } from './sqlite-reader-thread.ts';
import { WAL_BYTES_KEPT_MAX, WalKeeper } from './sqlite-wal.ts';

const undamaged = (path: string): SqliteDamage => new SqliteDamage(path, () => {});

/** Writes far more than is kept, while somebody reads and so keeps SQLite from starting the WAL anew. */
function burst(path: string): void {
  using reader = new DatabaseSync(path);
  using writer = new DatabaseSync(path);
  writer.exec('pragma busy_timeout = 5000; pragma synchronous = off');
  reader.exec('begin; select count(*) from meta');
  const insert = writer.prepare('insert into meta (name, value) values (?, ?)');
  for (let n = 0; n < 20; n += 1) insert.run(`burst ${n}`, 'x'.repeat(WAL_BYTES_KEPT_MAX / 8));
  reader.exec('rollback');
}

test('after a burst the WAL is cut off, nothing of it is lost, and a small one is left alone', async () => {
  await using scratch = await openScratchDatabase();
  const wal = `${scratch.path}-wal`;
  const thread = new SqliteReaderThread({ path: scratch.path, onStatement: null, damage: undamaged(scratch.path) });
  const keeper = new WalKeeper({ path: scratch.path, thread });
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent()] });
  await keeper.look();
  expect(thread.isRunning).toBe(false);
  expect(statSync(wal).size).toBeGreaterThan(0);

  burst(scratch.path);
  expect(statSync(wal).size).toBeGreaterThan(2 * WAL_BYTES_KEPT_MAX);
  await keeper.look();
  expect(statSync(wal).size).toBe(0);
  expect(await scratch.db.meta.get('burst 19')).toHaveLength(WAL_BYTES_KEPT_MAX / 8);
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent()] });
  expect(await scratch.db.log.head()).toMatchObject({ seq: 2 });
  await keeper.close();
  await thread.close();
});

test('who reads or writes meanwhile is not disturbed: the WAL stays until the next look', async () => {
  await using scratch = await openScratchDatabase();
  const wal = `${scratch.path}-wal`;
  const thread = new SqliteReaderThread({ path: scratch.path, onStatement: null, damage: undamaged(scratch.path) });
  const keeper = new WalKeeper({ path: scratch.path, thread });
  burst(scratch.path);
  {
    using reader = new DatabaseSync(scratch.path);
    reader.exec('begin; select count(*) from meta');
    await Promise.all([keeper.look(), scratch.db.ledger.commit({ changes: [], events: [sampleEvent()] })]);
    expect(statSync(wal).size).toBeGreaterThan(WAL_BYTES_KEPT_MAX);
    expect(reader.prepare('select count(*) as n from events').get()).toEqual({ n: 0 });
  }
  await keeper.look();
  expect(statSync(wal).size).toBe(0);
  await keeper.close();
  await thread.close();
});
