/** An SQLite file that is damaged, or that was put back beside the write-ahead log of another time: seen from outside. */
import { copyFileSync, cpSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { PantheonError } from '../src/foundation/errors.ts';
import { createPantheonAuth, type PantheonAuth } from '../src/pantheon-auth.ts';
import { emptyFolder, ISSUER, openTestEngine, type TestEngine } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };
const FILE = 'pantheon-auth.db';
const PAGE_BYTES = 4_096;

/** Keys, and whether each may act. */
type Truth = Map<string, boolean>;

async function someKeys(engine: TestEngine, count: number): Promise<Truth> {
  const truth: Truth = new Map();
  for (let n = 0; n < count; n += 1) {
    const { key, apiKey } = await engine.auth.keys.create({ ...INPUT, description: 'd'.repeat(200) });
    if (n % 4 === 0) await engine.auth.keys.revoke(apiKey.id);
    truth.set(key, n % 4 !== 0);
  }
  return truth;
}

/**
 * Opens what lies in a folder and asks it about every key. Allowed are: a start that is refused with what to do, the
 * right answer, and a 503. Answers whether it started.
 */
async function assertNothingWrong(
  dataDir: string,
  truth: Truth,
  { clock }: TestEngine,
): Promise<'refused' | 'started'> {
  let auth: PantheonAuth;
  try {
    auth = await createPantheonAuth({ dataDir, issuer: ISSUER, clock });
  } catch (error) {
    // A file that is gone is asked for before anything is opened.
    expect(String(error)).toMatch(
      /^PantheonError: (?:store_unusable: .* is damaged: .*restore a backup|database_missing )/,
    );
    return 'refused';
  }
  try {
    for (const [key, mayAct] of truth) {
      const answer = await auth.verify({ key }).then(
        ({ valid }) => valid,
        (error: PantheonError) => error.code,
      );
      expect([mayAct, 'key_quarantined', 'store_unusable']).toContain(answer);
    }
    return 'started';
  } finally {
    await auth.close();
  }
}

/** A folder with the files of a store, as a crash or a restore leaves them. */
function folderOf(engine: TestEngine, database: Buffer | string, wal: Buffer | string | null): string {
  const dataDir = emptyFolder();
  copyFileSync(join(engine.dataDir, 'master.key'), join(dataDir, 'master.key'));
  const put = (name: string, content: Buffer | string): void =>
    writeFileSync(join(dataDir, name), typeof content === 'string' ? readFileSync(content) : content, { mode: 0o600 });
  put(FILE, database);
  if (wal !== null) put(`${FILE}-wal`, wal);
  return dataDir;
}

/** Everything that was committed is in the file, and the WAL begins anew. */
async function checkpoint(engine: TestEngine): Promise<void> {
  expect(await engine.sql('pragma wal_checkpoint(truncate)')).toMatchObject([{ busy: 0 }]);
}

test('whichever page is overwritten, no answer is wrong, and a refused start says what to do', async () => {
  await using engine = await openTestEngine();
  const truth = await someKeys(engine, 24);
  await checkpoint(engine);
  const sound = readFileSync(join(engine.dataDir, FILE));
  const pages = sound.length / PAGE_BYTES;
  let refused = 0;
  for (let page = 0; page < pages; page += 7) {
    const damaged = Buffer.from(sound);
    damaged.fill(0xa5, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    const dataDir = folderOf(engine, damaged, null);
    if ((await assertNothingWrong(dataDir, truth, engine)) === 'refused') refused += 1;
    rmSync(dataDir, { recursive: true, force: true });
  }
  expect(refused).toBeGreaterThan(pages / 14);
});

test('whichever byte of a key id is changed, in its row or its index, a valid key is never denied', async () => {
  await using engine = await openTestEngine();
  const truth = await someKeys(engine, 8);
  await checkpoint(engine);
  const sound = readFileSync(join(engine.dataDir, FILE));
  const [key] = [...truth].find(([, mayAct]) => mayAct) as [string, boolean];
  const id = Buffer.from(key.slice('pan_live_'.length, 'pan_live_'.length + 16), 'latin1');
  let changed = 0;
  for (let at = sound.indexOf(id); at !== -1; at = sound.indexOf(id, at + 1)) {
    const damaged = Buffer.from(sound);
    damaged.writeUInt8(damaged.readUInt8(at + 15) ^ 0x01, at + 15);
    const dataDir = folderOf(engine, damaged, null);
    await assertNothingWrong(dataDir, truth, engine);
    rmSync(dataDir, { recursive: true, force: true });
    changed += 1;
  }
  // The row of the key, that of its version, the two indexes, its event and the index of that.
  expect(changed).toBeGreaterThanOrEqual(6);
});

test('a file that was truncated at any length is refused', async () => {
  await using engine = await openTestEngine();
  const truth = await someKeys(engine, 24);
  await checkpoint(engine);
  const sound = readFileSync(join(engine.dataDir, FILE));
  for (const part of [0.2, 0.5, 0.8, 0.99]) {
    const dataDir = folderOf(engine, sound.subarray(0, Math.floor(sound.length * part)), null);
    expect(await assertNothingWrong(dataDir, truth, engine), `${part} of the file`).toBe('refused');
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test.each([
  { before: 1, after: 1 },
  { before: 1, after: 4 },
  { before: 3, after: 1 },
  { before: 3, after: 12 },
  { before: 40, after: 1 },
])('an older file beside a newer WAL (%o changes in between) is refused and not changed', async (changes) => {
  await using engine = await openTestEngine();
  const victim = await engine.auth.keys.create(INPUT);
  const truth = await someKeys(engine, 20);
  await checkpoint(engine);
  const backup = readFileSync(join(engine.dataDir, FILE));
  // Lost with the newer file: what is not in the WAL any more.
  await engine.auth.keys.revoke(victim.apiKey.id);
  for (let n = 1; n < changes.before; n += 1) await engine.auth.keys.create(INPUT);
  await checkpoint(engine);
  for (let n = 0; n < changes.after; n += 1) await engine.auth.keys.create(INPUT);
  const dataDir = folderOf(engine, backup, join(engine.dataDir, `${FILE}-wal`));
  truth.set(victim.key, false);
  expect(await assertNothingWrong(dataDir, truth, engine)).toBe('refused');
  expect(readFileSync(join(dataDir, FILE)).equals(backup)).toBe(true);
  // What the message says to do.
  rmSync(join(dataDir, `${FILE}-wal`));
  rmSync(join(dataDir, `${FILE}-shm`), { force: true });
  truth.set(victim.key, true);
  expect(await assertNothingWrong(dataDir, truth, engine)).toBe('started');
  rmSync(dataDir, { recursive: true, force: true });
});

test('an older file beside a WAL with all later changes opens and is complete', async () => {
  await using engine = await openTestEngine();
  const victim = await engine.auth.keys.create(INPUT);
  const truth = await someKeys(engine, 8);
  await checkpoint(engine);
  const backup = readFileSync(join(engine.dataDir, FILE));
  await engine.auth.keys.revoke(victim.apiKey.id);
  const dataDir = folderOf(engine, backup, join(engine.dataDir, `${FILE}-wal`));
  truth.set(victim.key, false);
  expect(await assertNothingWrong(dataDir, truth, engine)).toBe('started');
  rmSync(dataDir, { recursive: true, force: true });
});

test.each([1, 2, 8, 40])(
  'the file of one store beside the WAL of another, with %i changes in it, is refused',
  async (changes) => {
    await using engine = await openTestEngine();
    await using stranger = await openTestEngine();
    const truth = await someKeys(engine, 8);
    await someKeys(stranger, 8);
    await checkpoint(engine);
    await checkpoint(stranger);
    for (let n = 0; n < changes; n += 1) await stranger.auth.keys.create(INPUT);
    const file = readFileSync(join(engine.dataDir, FILE));
    const dataDir = folderOf(engine, file, join(stranger.dataDir, `${FILE}-wal`));
    expect(await assertNothingWrong(dataDir, truth, engine)).toBe('refused');
    rmSync(dataDir, { recursive: true, force: true });
  },
);

test('a WAL without its database file is not taken for a new store', async () => {
  await using engine = await openTestEngine();
  await someKeys(engine, 1);
  for (const content of [null, Buffer.alloc(0)]) {
    const dataDir = folderOf(engine, content ?? Buffer.alloc(0), join(engine.dataDir, `${FILE}-wal`));
    if (content === null) rmSync(join(dataDir, FILE));
    expect(await assertNothingWrong(dataDir, new Map(), engine)).toBe('refused');
    expect(statSync(join(dataDir, `${FILE}-wal`)).size).toBeGreaterThan(0);
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test('damage that is found while the engine runs ends reads and writes with 503, and is logged once', async () => {
  await using engine = await openTestEngine();
  const truth = await someKeys(engine, 24);
  await checkpoint(engine);
  const dataDir = emptyFolder();
  cpSync(engine.dataDir, dataDir, { recursive: true });
  const told: string[] = [];
  const logger = {
    warn: () => {},
    error: (fields: object, message: string) => void told.push(`${message}: ${JSON.stringify(fields)}`),
  };
  const auth = await createPantheonAuth({ dataDir, issuer: ISSUER, logger, clock: engine.clock });
  const [known] = [...truth].find(([, mayAct]) => mayAct) as [string, boolean];
  expect(await auth.verify({ key: known })).toMatchObject({ valid: true });
  // A change by another process, so that this one reads its pages again; then everything beyond the first page is gone.
  const file = join(dataDir, FILE);
  const other = new DatabaseSync(file);
  other.exec("insert into meta values ('another', 'process')");
  other.exec('pragma wal_checkpoint(truncate)');
  writeFileSync(file, readFileSync(file).fill(0xa5, PAGE_BYTES), { flag: 'r+' });
  other.close();
  for (const key of truth.keys()) {
    const answer = await auth.verify({ key }).then(
      ({ valid }) => valid,
      (error: PantheonError) => error.code,
    );
    // A key that is remembered may be answered, and rightly, until the head is looked at: once per turn of the event loop.
    expect([truth.get(key), 'store_unusable']).toContain(answer);
  }
  await nextTurn();
  engine.clock.advance(1);
  const works = {
    verify: () => auth.verify({ key: known }),
    ping: () => auth.ping(),
    create: () => auth.keys.create(INPUT),
    list: () => auth.keys.list(),
  };
  for (const [name, work] of Object.entries(works)) {
    const error = await work().then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error, name).toMatchObject({ code: 'store_unusable' });
  }
  await auth.close();
  expect(told.filter((line) => line.startsWith('the database is damaged'))).toHaveLength(1);
  rmSync(dataDir, { recursive: true, force: true });
});
