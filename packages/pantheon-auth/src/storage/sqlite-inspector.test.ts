import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test, vi } from 'vitest';
import type { Commit } from '../events/ledger.ts';
import { systemClock } from '../foundation/clock.ts';
import type { PantheonError } from '../foundation/errors.ts';
import { sampleEvent, scratchFolder } from '../testing/scratch-database.ts';
import { openSqlite, type SqliteOptions } from './sqlite.ts';

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

test('a large file that is sound opens without a word', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const { opened, told, warnings } = open(path, { inspection: LARGE });
  await (await opened).close();
  expect([told, warnings]).toEqual([[], []]);
});

test('a large file that is damaged is refused, where that is found while the start waits', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  damage(path);
  for (const inspection of [{}, { ...LARGE, waitMaxMs: 20_000 }]) {
    const { opened } = open(path, { inspection });
    await expect(opened).rejects.toMatchObject({ code: 'store_unusable' });
    await expect(opened).rejects.toThrow(/is damaged: .*restore a backup/);
  }
});

test('damage that is found later ends every read and every write', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  damage(path);
  const { opened, told } = open(path, { inspection: { ...LARGE, waitMaxMs: 0 } });
  const db = await opened;
  await vi.waitFor(() => expect(told).toMatchObject([{ code: 'store_unusable' }]), { timeout: 20_000 });
  await expect(db.ledger.commit({ changes: [], events: [sampleEvent()] })).rejects.toBe(told[0]);
  await expect(db.meta.get('canary')).rejects.toBe(told[0]);
  expect(() => db.log.headNow?.()).toThrow(told[0]);
  await db.close();
  const again = open(path);
  await expect(again.opened).rejects.toThrow('is damaged');
});

test('a command may leave the pages of a large file alone, and the end of the log is looked at all the same', async () => {
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

test('closing does not wait for an inspection that goes on', async () => {
  using folder = scratchFolder();
  const path = await makeStore(folder.path);
  const { opened, warnings, told } = open(path, { inspection: { ...LARGE, waitMaxMs: 0 } });
  await (await opened).close();
  expect([told, warnings]).toEqual([[], []]);
});
