/** What commits of the main thread take while the WAL is large, on SQLite: copying it is the work of another thread. */
import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { WAL_BYTES_KEPT_MAX } from '../../packages/pantheon-auth/src/storage/sqlite/sqlite-wal.ts';
import { openScratchDatabase, sampleEvent } from '../../packages/pantheon-auth/src/testing/scratch-database.ts';
import { heldMs } from './held.ts';

/** Longer than this nothing may hold the event loop. */
const HELD_MS_MAX = 50;
const WAL_MIB = 200;

/** Another program, which leaves the WAL as it is. */
const PROGRAM = `
  const { DatabaseSync } = require('node:sqlite');
  const { path, mebibytes } = require('node:worker_threads').workerData;
  const writer = new DatabaseSync(path);
  writer.exec('pragma busy_timeout = 5000; pragma synchronous = off; pragma wal_autocheckpoint = 0');
  const write = writer.prepare('insert or replace into meta (name, value) values (?, ?)');
  for (let n = 0; n < mebibytes; n += 1) write.run('written ' + n, 'x'.repeat(1024 * 1024));
  writer.close();
`;

function write(path: string, mebibytes: number): Promise<unknown> {
  const worker = new Worker(PROGRAM, { eval: true, workerData: { path, mebibytes } });
  return new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
}

test('no commit copies a WAL that a long read has kept, and the WAL is small again soon after', async () => {
  await using scratch = await openScratchDatabase();
  const commit = (): Promise<unknown> => scratch.db.ledger.commit({ changes: [], events: [sampleEvent()] });
  const walBytes = (): number => statSync(`${scratch.path}-wal`).size;
  const held = await heldMs(
    async () => {
      {
        using reader = new DatabaseSync(scratch.path, { readOnly: true });
        reader.exec('begin; select count(*) from meta');
        await write(scratch.path, WAL_MIB);
        expect(walBytes()).toBeGreaterThan(WAL_BYTES_KEPT_MAX);
      }
      // At once, most often before the thread has looked.
      await commit();
      while (walBytes() > WAL_BYTES_KEPT_MAX) await commit();
    },
    { enoughMs: HELD_MS_MAX },
  );
  expect(held).toBeLessThan(HELD_MS_MAX);
}, 120_000);
