import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Worker } from 'node:worker_threads';
import { expect, test, vi } from 'vitest';
import {
  openScratchDatabase,
  type ScratchDatabase,
  sampleEvent,
  scratchFolder,
} from '../../testing/scratch-database.ts';
import type { Database } from '../database.ts';
import { type CheckpointResult, SqliteCheckpointThread } from './sqlite-checkpoint-thread.ts';
import type { CheckpointOrder } from './sqlite-checkpoint-worker.ts';
import { SqliteDamage } from './sqlite-damage.ts';
import { identityOf } from './sqlite-file-identity.ts';
import { CommitCheckpoints, WAL_BYTES_KEPT_MAX, WAL_BYTES_LEFT_ALONE_MAX, WalKeeper } from './sqlite-wal.ts';

const MIB = 1_024 * 1_024;
/** After as many looks a changed WAL has been copied, and a quiet one is empty. */
const LOOKS = 25;
/** What is kept, and what is written until a look and a checkpoint are done, on a busy machine too. */
const GROWS_TO_MAX = 6 * WAL_BYTES_KEPT_MAX;

interface Kept extends AsyncDisposable {
  readonly scratch: ScratchDatabase;
  readonly keeper: WalKeeper;
  readonly thread: SqliteCheckpointThread;
  readonly damage: SqliteDamage;
  /** What the keeper said of its thread, each time. */
  readonly told: boolean[];
  readonly warnings: string[];
  walBytes(): number;
}

/** A database whose WAL is looked at when the test says so, and not before. */
async function openKept(checkpoint?: SqliteCheckpointThread['checkpoint']): Promise<Kept> {
  vi.useFakeTimers({ toFake: ['setInterval'] });
  try {
    const scratch = await openScratchDatabase();
    const { path } = scratch;
    const damage = new SqliteDamage(path, () => {});
    const thread = new SqliteCheckpointThread({
      path,
      identity: identityOf(path),
      bytesBeforeRestartMax: WAL_BYTES_LEFT_ALONE_MAX,
    });
    if (checkpoint !== undefined) thread.checkpoint = checkpoint;
    const [told, warnings]: [boolean[], string[]] = [[], []];
    const onThread = (hasThread: boolean) => void told.push(hasThread);
    const keeper = new WalKeeper({ path, thread, damage, onThread, onWarning: (text) => void warnings.push(text) });
    return {
      scratch,
      keeper,
      thread,
      damage,
      told,
      warnings,
      walBytes: () => statSync(`${path}-wal`).size,
      async [Symbol.asyncDispose]() {
        await keeper.close();
        await scratch[Symbol.asyncDispose]();
      },
    };
  } finally {
    vi.useRealTimers();
  }
}

let written = 0;

/** So many megabytes, as another program would write them that leaves the WAL as it is. */
function write(path: string, mebibytes: number): void {
  using writer = new DatabaseSync(path);
  writer.exec('pragma busy_timeout = 5000; pragma synchronous = off; pragma wal_autocheckpoint = 0');
  const insert = writer.prepare('insert into meta (name, value) values (?, ?)');
  for (let n = 0; n < mebibytes; n += 1) {
    written += 1;
    insert.run(`written ${written}`, 'x'.repeat(MIB));
  }
}

const commit = (db: Database): Promise<unknown> => db.ledger.commit({ changes: [], events: [sampleEvent()] });

test('a commit appends to the WAL and copies nothing into the database, however large the WAL is', async () => {
  await using kept = await openKept();
  const { scratch, walBytes } = kept;
  write(scratch.path, 24);
  const before = readFileSync(scratch.path);
  const bytes = walBytes();
  await commit(scratch.db);
  expect(walBytes()).toBeGreaterThan(bytes);
  expect(readFileSync(scratch.path).equals(before)).toBe(true);
});

test('after a burst the WAL is copied and truncated, nothing is lost, and a small one is left alone', async () => {
  await using kept = await openKept();
  const { scratch, keeper, thread, walBytes } = kept;
  await commit(scratch.db);
  for (let n = 0; n < LOOKS; n += 1) await keeper.look();
  expect(thread.isRunning).toBe(false);
  expect(walBytes()).toBeGreaterThan(0);

  write(scratch.path, 24);
  await keeper.look();
  expect(walBytes()).toBe(0);
  expect(await scratch.db.meta.get(`written ${written}`)).toHaveLength(MIB);
  await commit(scratch.db);
  expect(await scratch.db.log.head()).toMatchObject({ seq: 2 });
  expect(kept.told).toEqual([true]);
});

test('a WAL of medium size is copied and overwritten from its start, and truncated when nothing is written', async () => {
  await using kept = await openKept();
  const { scratch, keeper, walBytes } = kept;
  write(scratch.path, 5);
  const bytes = walBytes();
  await keeper.look();
  expect(walBytes()).toBe(bytes);
  write(scratch.path, 4);
  expect(walBytes()).toBe(bytes);
  for (let n = 0; n < LOOKS; n += 1) await keeper.look();
  expect(walBytes()).toBe(0);
});

test('a larger WAL is restarted although commits follow each other, and its file stays', async () => {
  await using kept = await openKept();
  const { scratch, keeper, walBytes } = kept;
  write(scratch.path, 10);
  const bytes = walBytes();
  expect(bytes).toBeGreaterThan(WAL_BYTES_LEFT_ALONE_MAX);
  // Who began to read when all was copied does not see the WAL, and is not in its way.
  await keeper.look();
  write(scratch.path, 9);
  expect(walBytes()).toBe(bytes);
});

test('a read is not disturbed and delays no commit; after it the WAL is truncated', async () => {
  await using kept = await openKept();
  const { scratch, keeper, walBytes } = kept;
  {
    using reader = new DatabaseSync(scratch.path);
    reader.exec('begin; select count(*) from meta');
    write(scratch.path, 24);
    for (let n = 0; n < LOOKS; n += 1) await Promise.all([keeper.look(), commit(scratch.db)]);
    expect(walBytes()).toBeGreaterThan(WAL_BYTES_KEPT_MAX);
    expect(reader.prepare('select count(*) as n from events').get()).toEqual({ n: 0 });
  }
  for (let n = 0; n < LOOKS; n += 1) await keeper.look();
  expect(walBytes()).toBe(0);
});

test.each(['database', 'wal'] as const)(
  'another %s put in its place is never mixed with the WAL in use, and every access to the database fails',
  async (which) => {
    for (const isOpenBefore of [false, true]) {
      await using kept = await openKept();
      const { scratch, keeper, damage } = kept;
      if (isOpenBefore) {
        write(scratch.path, 24);
        await keeper.look();
      }
      const replaced = which === 'wal' ? `${scratch.path}-wal` : scratch.path;
      write(scratch.path, 24);
      copyFileSync(replaced, `${replaced}.backup`);
      write(scratch.path, 1);
      renameSync(`${replaced}.backup`, replaced);
      const backup = readFileSync(scratch.path);
      await keeper.look();
      expect(readFileSync(scratch.path).equals(backup)).toBe(true);
      expect(() => damage.assertNone()).toThrow(/was moved or replaced while it was in use/);
      // From then on nothing is copied, whatever lies there.
      for (let n = 0; n < LOOKS; n += 1) await keeper.look();
      expect(readFileSync(scratch.path).equals(backup)).toBe(true);
    }
  },
);

test('when the thread ends, another is started a little later, and a warning is logged', async () => {
  await using kept = await openKept();
  const { scratch, keeper, walBytes } = kept;
  const started: Worker[] = [];
  const watch = (worker: Worker): void => void started.push(worker);
  process.on('worker', watch);
  write(scratch.path, 24);
  const looked = keeper.look();
  await vi.waitFor(() => expect(started).toHaveLength(1), { interval: 0 });
  await started[0]?.terminate();
  await looked;
  expect(kept.told).toEqual([false]);
  for (let n = 0; n < LOOKS; n += 1) await keeper.look();
  expect(started).toHaveLength(2);
  expect(kept.told).toEqual([false, true]);
  expect(walBytes()).toBe(0);
  process.off('worker', watch);
});

test('commits copy the WAL themselves if there is no thread, and a little at a time while the disk is full', async () => {
  await using scratch = await openScratchDatabase();
  using writer = new DatabaseSync(scratch.path);
  const pages = (): unknown => Object.values(writer.prepare('pragma wal_autocheckpoint').get() ?? {})[0];
  const checkpoints = new CommitCheckpoints(writer, true);
  expect(pages()).toBe(0);
  checkpoints.setFull(true);
  expect(pages()).toBe(100);
  checkpoints.setThread(false);
  expect(pages()).toBe(100);
  checkpoints.setFull(false);
  expect(pages()).toBe(1_000);
  checkpoints.setThread(true);
  expect(pages()).toBe(0);
  new CommitCheckpoints(writer, false);
  expect(pages()).toBe(1_000);
});

test('with two processes that write without pause the WAL stays small, and shrinks after a long read', async () => {
  await using scratch = await openScratchDatabase();
  const writers = [scratch.db, await scratch.openAgain()];
  const walBytes = (): number => statSync(`${scratch.path}-wal`).size;
  let seq = 0;
  /** Commits as fast as they are taken, and answers what the WAL has grown to. */
  const writeOn = async (mebibytes: number): Promise<number> => {
    let most = 0;
    for (let bytes = 0; bytes < mebibytes * MIB; bytes += writers.length * 100_000) {
      const event = () => sampleEvent({ personal: new Uint8Array(100_000) });
      await Promise.all(writers.map((db) => db.ledger.commit({ changes: [], events: [event()] })));
      seq += writers.length;
      most = Math.max(most, walBytes());
    }
    return most;
  };
  expect(await writeOn(160)).toBeLessThan(GROWS_TO_MAX);
  {
    using reader = new DatabaseSync(scratch.path, { readOnly: true });
    reader.exec('begin; select count(*) from meta');
    expect(await writeOn(80)).toBeGreaterThan(GROWS_TO_MAX);
  }
  while (walBytes() > WAL_BYTES_KEPT_MAX) await writeOn(1);
  expect(await writeOn(160)).toBeLessThan(GROWS_TO_MAX);
  await vi.waitFor(() => expect(walBytes()).toBeLessThanOrEqual(WAL_BYTES_LEFT_ALONE_MAX), { timeout: 10_000 });
  using reader = new DatabaseSync(scratch.path, { readOnly: true });
  expect(reader.prepare('pragma integrity_check').all()).toEqual([{ integrity_check: 'ok' }]);
  for (const db of writers) expect(await db.log.head()).toMatchObject({ seq });
}, 120_000);

test('a large WAL is copied by the thread at the close', async () => {
  await using kept = await openKept();
  const { scratch, keeper, walBytes } = kept;
  write(scratch.path, 5);
  await keeper.look();
  write(scratch.path, 5);
  await keeper.close();
  expect(walBytes()).toBe(0);
});

test('if the thread cannot copy, commits do, a warning is logged once, and the thread is used again later', async () => {
  const answers: CheckpointResult[] = [];
  await using kept = await openKept(async () => answers.shift() ?? { failed: null });
  const { scratch, keeper, told, warnings, damage } = kept;
  const cannot = { failed: 'unable to open database file', errcode: 14 };
  answers.push(cannot, cannot, { failed: null });
  for (let n = 0; n < 3 * LOOKS; n += 1) {
    write(scratch.path, n === 0 ? 24 : 1);
    await keeper.look();
  }
  expect(told.slice(0, 3)).toEqual([false, false, true]);
  expect(warnings).toEqual([expect.stringContaining('unable to open database file')]);
  expect(damage.isFound).toBe(false);
});

test('a lock of another connection is not reported as a failure', async () => {
  await using kept = await openKept(async () => ({ failed: 'database is locked', errcode: 5 }));
  write(kept.scratch.path, 24);
  await kept.keeper.look();
  expect([kept.told, kept.warnings]).toEqual([[true], []]);
});

test('a large WAL is copied although a read is open, once a second', async () => {
  const orders: CheckpointOrder[] = [];
  await using kept = await openKept(async (order) => {
    orders.push(order);
    return { failed: null };
  });
  write(kept.scratch.path, 66);
  for (let n = 0; n < 15; n += 1) {
    write(kept.scratch.path, 1);
    await kept.keeper.look();
  }
  expect(orders.filter(({ insists }) => insists)).toHaveLength(2);
});

test('a program ends although its WAL is large, and a close is waited for', async () => {
  const program = (end: string): string => `
    import { openSqlite } from ${moduleOf('./sqlite.ts')};
    import { DatabaseSync } from 'node:sqlite';
    const path = process.argv[1];
    const db = await openSqlite({ path, clock: { now: () => Date.now(), monotonicMs: () => performance.now() } });
    const writer = new DatabaseSync(path);
    writer.exec('pragma wal_autocheckpoint = 0; pragma synchronous = off');
    const insert = writer.prepare('insert into meta (name, value) values (?, ?)');
    for (let n = 0; n < 24; n += 1) insert.run('written ' + n, 'x'.repeat(1048576));
    writer.close();
    await new Promise((resolve) => setTimeout(resolve, 500));
    ${end}
    console.log('done');`;
  for (const end of ['', 'await db.close();']) {
    using folder = scratchFolder();
    const args = ['--conditions=source', '--no-warnings', '--input-type=module', '-e', program(end)];
    const child = spawnSync(process.execPath, [...args, join(folder.path, 'a.db')], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect(child).toMatchObject({ status: 0, stdout: 'done\n', stderr: '' });
  }
}, 90_000);

function moduleOf(path: string): string {
  return JSON.stringify(new URL(path, import.meta.url).href);
}
