import { execFile } from 'node:child_process';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import {
  insertKey,
  insertTenant,
  openScratchDatabase,
  sampleEvent,
  sampleKey,
} from '../../testing/scratch-database.ts';
import { SqliteDamage } from './sqlite-damage.ts';
import { ANSWER_BYTES_MAX, READS_WAITING_MAX, SqliteReaderThread } from './sqlite-reader-thread.ts';

const undamaged = (path: string): SqliteDamage => new SqliteDamage(path, () => {});

const EVERYTHING = {
  tenantId: 'default',
  userId: null,
  state: null,
  environment: null,
  text: null,
  after: null,
  limit: 10,
  now: 1,
} as const;

async function withThread(use: (thread: SqliteReaderThread, path: string) => Promise<void>): Promise<void> {
  await using scratch = await openScratchDatabase();
  const thread = new SqliteReaderThread({ path: scratch.path, onStatement: null, damage: undamaged(scratch.path) });
  await use(thread, scratch.path);
  await thread.close();
}

test('a list contains every change that was answered before it, in every repetition', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  await db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  for (let n = 0; n < 20; n += 1) {
    const key = sampleKey({ created_at: n });
    await db.ledger.commit({ changes: insertKey(key), events: [sampleEvent()] });
    const { items } = await db.keys.list({ ...EVERYTHING, limit: 1 });
    expect(items[0]?.key.id).toBe(key.id);
    const { items: events } = await db.events.list({
      tenantId: 'default',
      type: null,
      subjectType: null,
      subjectId: null,
      after: null,
      order: 'newest_first',
      limit: 1,
    });
    expect(events[0]?.seq).toBe(n + 2);
  }
});

test('values come back as they were stored', async () => {
  await withThread(async (thread) => {
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const values = ['', 'Jürgen 🚀', 0, -1.5, Number.MAX_SAFE_INTEGER, null, bytes];
    const columns = values.map((_, at) => `? as c${at}`).join(', ');
    const [row] = await thread.query(`select ${columns}`, values);
    expect(Object.values(row ?? {})).toEqual(values);
  });
});

test('the thread is started by the first read and not before', async () => {
  await withThread(async (thread) => {
    expect(thread.isRunning).toBe(false);
    await thread.query('select 1', []);
    expect(thread.isRunning).toBe(true);
  });
});

test('the event loop turns while a statement runs for long', async () => {
  await withThread(async (thread) => {
    await thread.query('select 1', []);
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 1);
    const count =
      'with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000000) select max(i) as m from n';
    expect(await thread.query(count, [])).toEqual([{ m: 1_000_000 }]);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(5);
  });
});

test('it can read and not write', async () => {
  await withThread(async (thread) => {
    await expect(thread.query(`insert into meta (name, value) values ('a', 'b')`, [])).rejects.toMatchObject({
      code: 'store_read_only',
    });
  });
});

test('an error is reported as on the main thread, and the next statement runs', async () => {
  await withThread(async (thread, path) => {
    await expect(thread.query('select no_such', [])).rejects.toThrow(/no such column/);
    using other = new DatabaseSync(path);
    other.exec(`insert into usage_batches (id, at) values ('big', 9007199254740993)`);
    await expect(thread.query('select at from usage_batches', [])).rejects.toMatchObject({ code: 'key_quarantined' });
    expect(await thread.query('select 1 as one', [])).toEqual([{ one: 1 }]);
  });
});

test('a result that is too large is an error and does not use the memory', async () => {
  await withThread(async (thread) => {
    const rows =
      'with recursive n (i) as (select 1 union all select i + 1 from n where i < 9) select zeroblob(?) as b from n';
    await expect(thread.query(rows, [ANSWER_BYTES_MAX / 8])).rejects.toThrow(/larger than/);
    expect(await thread.query(rows, [ANSWER_BYTES_MAX / 10])).toHaveLength(9);
  });
});

test('too many reads at once are refused, and the others are answered', async () => {
  await withThread(async (thread) => {
    const asked = Array.from({ length: READS_WAITING_MAX + 5 }, () => thread.query('select 1 as one', []));
    const answers = await Promise.allSettled(asked);
    const refused = answers.filter((answer) => answer.status === 'rejected');
    expect(refused).toHaveLength(5);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  });
});

test('when the thread ends, waiting reads get an error that can be retried, and the next read starts another thread', async () => {
  await withThread(async (thread) => {
    const started: Worker[] = [];
    const watch = (worker: Worker): void => void started.push(worker);
    process.on('worker', watch);
    const asked = thread.query('select 1', []);
    asked.catch(() => {});
    await new Promise<void>((resolve) => process.nextTick(resolve)); // Then Node tells of the thread.
    await started[0]?.terminate();
    await expect(asked).rejects.toMatchObject({ code: 'store_unavailable', retryAfterSeconds: 1 });
    expect(await thread.query('select 1 as one', [])).toEqual([{ one: 1 }]);
    process.off('worker', watch);
    expect(started).toHaveLength(2);
  });
});

test('after the close no read is accepted, and earlier ones are answered', async () => {
  await withThread(async (thread) => {
    const asked = thread.query('select 1 as one', []);
    const closed = thread.close();
    expect(await asked).toEqual([{ one: 1 }]);
    await closed;
    await expect(thread.query('select 1', [])).rejects.toMatchObject({ code: 'shutting_down' });
    await thread.close();
  });
});

test('a program ends when it has its results, also if it closed nothing', async () => {
  await using scratch = await openScratchDatabase();
  const folder = dirname(fileURLToPath(import.meta.url));
  const program = `
    import { openSqlite } from ${JSON.stringify(`${folder}/sqlite.ts`)};
    import { systemClock } from ${JSON.stringify(`${folder}/../../foundation/clock.ts`)};
    const db = await openSqlite({ path: process.argv[1], clock: systemClock });
    console.log((await db.tenants.list(null, 5)).length);`;
  const run = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program, scratch.path]);
  expect((await run).stdout).toBe('0\n');
});
