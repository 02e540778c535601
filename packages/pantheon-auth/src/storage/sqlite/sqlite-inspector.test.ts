import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test, vi } from 'vitest';
import type { Commit } from '../../events/ledger.ts';
import { systemClock } from '../../foundation/clock.ts';
import type { PantheonError } from '../../foundation/errors.ts';
import { insertKey, insertTenant, sampleEvent, sampleKey, scratchFolder } from '../../testing/scratch-database.ts';
import { openSqlite, type SqliteOptions } from './sqlite.ts';
import { inspectPages } from './sqlite-inspection.ts';

const PAGE_BYTES = 4_096;
/** Large enough for the thread. */
const LARGE = { inlineBytesMax: 0 } as const;

async function makeStore(folder: string): Promise<string> {
  const path = join(folder, 'a.db');
  const db = await openSqlite({ path, clock: systemClock });
  const events = Array.from({ length: 500 }, () => sampleEvent({ personal: new Uint8Array(500) }));
  await db.ledger.commit({ changes: [], events: events as unknown as Commit['events'] });
  await db.close();
  return path;
}

/** A page that nobody needs to open the store. */
function damage(path: string): void {
  const bytes = readFileSync(path);
  const page = Math.floor(bytes.indexOf(Buffer.alloc(400), bytes.length / 2) / PAGE_BYTES);
  writeFileSync(path, bytes.fill(0xa5, page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
}

/** Makes the list of free pages lead to one that holds events. Answers its number. */
function freeAndInUse(path: string): number {
  const raw = new DatabaseSync(path);
  raw.exec('create table filler (x blob); insert into filler values (zeroblob(100000)); drop table filler');
  const { page } = raw.prepare("select max(pageno) as page from dbstat where name = 'events'").get() as {
    page: number;
  };
  raw.close();
  const bytes = readFileSync(path);
  // The first page of the list, and in it the first that it names: https://sqlite.org/fileformat2.html#the_freelist.
  const list = (bytes.readUInt32BE(32) - 1) * PAGE_BYTES;
  bytes.writeUInt32BE(page, list + 8);
  writeFileSync(path, bytes);
  return page;
}

function open(path: string, more: Partial<SqliteOptions> = {}) {
  const told: PantheonError[] = [];
  const warnings: string[] = [];
  const onDamage = (error: PantheonError): void => void told.push(error);
  const options = {
    path,
    clock: systemClock,
    onDamage,
    onWarning: (text: string) => void warnings.push(text),
    ...more,
  };
  return { told, warnings, opened: openSqlite(options) };
}

test('a large intact file opens without a warning', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const { opened, told, warnings } = open(path, { inspection: LARGE });
  await (await opened).close();
  expect([told, warnings]).toEqual([[], []]);
});

test('a large damaged file is refused if that is found while the start waits', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  damage(path);
  for (const inspection of [{}, { ...LARGE, waitMaxMs: 20_000 }]) {
    const { opened } = open(path, { inspection });
    await expect(opened).rejects.toMatchObject({ code: 'store_unusable' });
    await expect(opened).rejects.toThrow(/is damaged: .*restore a backup/);
  }
});

test('a page that is in use and listed as free is found before a write overwrites it, also in a large file', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const inUse = freeAndInUse(path);
  for (const inspection of [{}, { ...LARGE, waitMaxMs: 20_000 }]) {
    const { opened } = open(path, { inspection });
    await expect(opened).rejects.toThrow(new RegExp(`is damaged: .*page ${inUse}`));
  }
});

test('between the steps of a check no read is open, so that the WAL can be restarted', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const db = await openSqlite({ path, clock: systemClock });
  using checked = new DatabaseSync(path, { readOnly: true });
  using other = new DatabaseSync(path);
  let steps = 0;
  for (const wrong of inspectPages(checked)) {
    expect(wrong).toBeNull();
    await db.ledger.commit({ changes: [], events: [sampleEvent()] });
    expect(other.prepare('pragma wal_checkpoint(truncate)').get()).toMatchObject({ busy: 0 });
    steps += 1;
  }
  expect(steps).toBeGreaterThan(5);
  await db.close();
});

test('an event that is missing far from the end of the log is found in a large file', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  using raw = new DatabaseSync(path);
  for (const { name } of raw.prepare("select name from sqlite_schema where type = 'trigger'").all())
    raw.exec(`drop trigger ${String(name)}`);
  const last = 60_020;
  raw.exec(`
    pragma synchronous = off;
    with recursive n (i) as (select 501 union all select i + 1 from n where i < ${last})
    insert into events (seq, id, at, tenant_id, type, subject_type, subject_id, body, leaf_random, leaf)
      select n.i, 'event' || n.i, at, tenant_id, type, subject_type, 'nobody', body, leaf_random, leaf
      from n join events on events.seq = 500;
    update log_head set seq = ${last}`);
  const inspection = { ...LARGE, waitMaxMs: 20_000 };
  await (await open(path, { inspection }).opened).close();
  raw.exec('delete from events where seq = 55010');
  await expect(open(path, { inspection }).opened).rejects.toThrow(/has 60019 events, and its head says 60020/);
});

test('a key that is missing in an index is found in a large file', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const db = await openSqlite({ path, clock: systemClock });
  const id = 'keyThatIsLost001';
  await db.ledger.commit({ changes: [insertTenant(), ...insertKey(sampleKey({ id }))], events: [sampleEvent()] });
  await db.close();
  const sound = readFileSync(path);
  let places = 0;
  for (let at = sound.indexOf(id); at !== -1; at = sound.indexOf(id, at + 1)) {
    writeFileSync(path, Buffer.from(sound).fill('2', at + id.length - 1, at + id.length));
    const { opened } = open(path, { inspection: { ...LARGE, waitMaxMs: 20_000 } });
    await expect(opened).rejects.toThrow(/is damaged: .*index/);
    places += 1;
  }
  expect(places).toBeGreaterThanOrEqual(4);
});

test('damage that is found later stops every read and write', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  damage(path);
  const { opened, told } = open(path, { inspection: { ...LARGE, waitMaxMs: 0 } });
  const db = await opened;
  await vi.waitFor(() => expect(told).toMatchObject([{ code: 'store_unusable' }]), { timeout: 20_000 });
  await expect(db.ledger.commit({ changes: [], events: [sampleEvent()] })).rejects.toBe(told[0]);
  await expect(db.meta.get('canary')).rejects.toBe(told[0]);
  expect(() => db.log.headSync?.()).toThrow(told[0]);
  await db.close();
  const again = open(path);
  await expect(again.opened).rejects.toThrow('is damaged');
});

test('a command may skip the pages of a large file; the end of the log is checked all the same', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const sound = readFileSync(path);
  damage(path);
  const hasty = { checkPages: false, inspection: LARGE };
  await (await open(path, hasty).opened).close();
  writeFileSync(path, sound);
  const db = await open(path).opened;
  await db.close();
  const raw = new DatabaseSync(path);
  raw.exec('update log_head set seq = seq + 1');
  raw.close();
  await expect(open(path, hasty).opened).rejects.toThrow('the log ends at event 500, and its head says 501');
});

test('closing does not wait for a check that is running', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const { opened, warnings, told } = open(path, { inspection: { ...LARGE, waitMaxMs: 0 } });
  await (await opened).close();
  expect([told, warnings]).toEqual([[], []]);
});
