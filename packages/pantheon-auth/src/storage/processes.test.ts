/** What several processes on one file, and the sudden end of one, must not break: I2, I3 and I13. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { systemClock } from '../foundation/clock.ts';
import { insertTenant, openScratchDatabase, sampleEvent, scratchFolder } from '../testing/scratch-database.ts';
import { openSqlite } from './sqlite/sqlite.ts';

const MODULES = JSON.stringify({
  database: new URL('./sqlite/sqlite.ts', import.meta.url).href,
  scratch: new URL('../testing/scratch-database.ts', import.meta.url).href,
  clock: new URL('../foundation/clock.ts', import.meta.url).href,
});

/** What every child begins with: `open(options)`, `commit(db, name)`, which writes a tenant and one event, and its path. */
const PRELUDE = `
  const modules = ${MODULES};
  const { openSqlite } = await import(modules.database);
  const { insertTenant, sampleEvent } = await import(modules.scratch);
  const { systemClock } = await import(modules.clock);
  const [path, ...args] = process.argv.slice(1);
  const open = (options) => openSqlite({ path, clock: systemClock, ...options });
  const commit = (db, id) => db.ledger.commit({
    changes: [insertTenant({ id, tenant_id: id })],
    events: [sampleEvent({ subjectType: 'tenant', subjectId: id })],
  });
`;

function start(source: string, args: readonly string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, ['--conditions=source', '--input-type=module', '-e', PRELUDE + source, '--', ...args]);
}

/** Runs a child to its end. */
async function run(source: string, args: readonly string[]) {
  const child = start(source, args);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += String(data);
  });
  child.stderr.on('data', (data) => {
    stderr += String(data);
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { stdout, stderr, code, signal };
}

/** Every tenant in the file and the event that made it, as the file tells it. */
async function contentsOf(path: string) {
  const db = await openSqlite({ path, clock: systemClock });
  const notices: { seq: number; subjectId: string }[] = [];
  for (;;) {
    const more = await db.log.noticesFrom((notices.at(-1)?.seq ?? 0) + 1, 1_000);
    notices.push(...more.map(({ seq, subjectId }) => ({ seq, subjectId })));
    if (more.length === 0) break;
  }
  const tenants = (await db.tenants.list(null, 100_000)).map((tenant) => tenant.id);
  const head = (await db.log.head()).seq;
  await db.close();
  return { notices, tenants, head };
}

test('several processes that start and commit at once leave no gap, lose nothing and keep the order (I3)', async () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  const commits = 30;
  const source = `
    const [name] = args;
    const db = await open();
    for (let n = 0; n < ${commits}; n += 2) {
      const pair = [commit(db, name + n), commit(db, name + (n + 1))];
      for (const [index, one] of pair.entries()) console.log((await one).seq + ' ' + name + (n + index));
    }
    await db.close();
  `;
  const names = ['a', 'b', 'c'];
  const children = await Promise.all(names.map((name) => run(source, [path, name])));
  const { notices, tenants, head } = await contentsOf(path);
  expect(children.map(({ code, stderr }) => [code, stderr])).toEqual(names.map(() => [0, '']));
  expect(notices.map(({ seq }) => seq)).toEqual(Array.from({ length: names.length * commits }, (_, n) => n + 1));
  expect(head).toBe(names.length * commits);
  expect(notices.map(({ subjectId }) => subjectId).toSorted()).toEqual(tenants);
  for (const { stdout } of children) {
    const acknowledged = stdout.trim().split('\n');
    expect(acknowledged).toHaveLength(commits);
    const seqs = acknowledged.map((line) => Number(line.split(' ')[0]));
    expect(seqs).toEqual(seqs.toSorted((x, y) => x - y));
    for (const line of acknowledged) {
      const [seq, id] = line.split(' ');
      expect(notices[Number(seq) - 1]?.subjectId).toBe(id);
    }
  }
}, 60_000);

test('after kill -9 at any moment every acknowledged change is stored, and events and rows agree (I2, I13)', async () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  const source = `
    const [name] = args;
    const db = await open();
    for (let n = 0; ; n += 1) {
      await commit(db, name + n);
      console.log(name + n);
    }
  `;
  const acknowledged: string[] = [];
  for (let round = 0; round < 6; round += 1) {
    const child = start(source, [path, `r${round}-`]);
    const closed = once(child, 'close');
    let left = randomInt(1, 60);
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged.push(line);
      left -= 1;
      if (left === 0) child.kill('SIGKILL');
    }
    expect(await closed).toEqual([null, 'SIGKILL']);
    const { notices, tenants, head } = await contentsOf(path);
    const kept = new Set(tenants);
    expect(acknowledged.filter((name) => !kept.has(name))).toEqual([]);
    // At most the one commit of each round that was under way is there without having been acknowledged.
    expect(tenants.length - acknowledged.length).toBeLessThanOrEqual(round + 1);
    expect(notices.map(({ subjectId }) => subjectId).toSorted()).toEqual(tenants.toSorted());
    expect(notices.map(({ seq }) => seq)).toEqual(notices.map((_, index) => index + 1));
    expect(head).toBe(notices.length);
  }
}, 60_000);

test('after kill -9 at any statement of a migration there is no table or all of them, and the next start finishes', async () => {
  const source = `
    let left = Number(args[0]);
    await open({ onStatement: () => { left -= 1; if (left === 0) process.kill(process.pid, 'SIGKILL'); } });
    console.log(Number(args[0]) - left);
  `;
  using measured = scratchFolder();
  const statements = Number((await run(source, [join(measured.path, 'a.db'), '1000'])).stdout);
  expect(statements).toBeGreaterThan(25);
  for (const at of [1, 2, randomInt(3, statements - 1), randomInt(3, statements - 1), statements]) {
    using folder = scratchFolder();
    const path = join(folder.path, 'a.db');
    expect(await run(source, [path, String(at)])).toMatchObject({ signal: 'SIGKILL' });
    const raw = new DatabaseSync(path);
    expect(raw.prepare('select name from sqlite_master').all()).toEqual([]);
    raw.close();
    expect(await contentsOf(path)).toEqual({ notices: [], tenants: [], head: 0 });
  }
}, 60_000);

test('the lock of another process is waited for while the event loop is free', async () => {
  await using scratch = await openScratchDatabase();
  const source = `
    const { DatabaseSync } = await import('node:sqlite');
    const raw = new DatabaseSync(path);
    raw.exec('begin immediate');
    console.log('held');
    process.stdin.once('data', () => { raw.exec('commit'); raw.close(); process.exit(0); });
  `;
  const child = start(source, [scratch.path]);
  const closed = once(child, 'close');
  await once(child.stdout, 'data');
  let done = false;
  const commit = scratch.db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] }).then(() => {
    done = true;
  });
  // The retries are counted by the statements; each turn between them is one in which others were served.
  const tries = () => scratch.statements.filter((text) => text === 'begin immediate').length;
  const before = tries();
  while (tries() < before + 5) await new Promise(setImmediate);
  expect(done).toBe(false);
  expect(await scratch.db.tenants.find('default')).toBeNull();
  child.stdin.write('release');
  await commit;
  expect(await closed).toEqual([0, null]);
  expect(await scratch.db.tenants.find('default')).not.toBeNull();
}, 60_000);

/** Permission bits mean nothing to root, so where the tests run as root the child becomes somebody else. */
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

test.each([
  ['a file that may only be read', 0o400, 0o700, 'a.db'],
  ['a folder in which nothing may be made, for the companions of the file', 0o600, 0o500, 'a.db'],
  ['a folder in which nothing may be made, for a new file', 0o600, 0o500, 'new.db'],
])('%s stops the start with one clear error', async (_name, fileMode, folderMode, file) => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  await (await openSqlite({ path, clock: systemClock })).close();
  if (isRoot) for (const owned of [path, folder.path]) chownSync(owned, NOBODY, NOBODY);
  chmodSync(path, fileMode);
  chmodSync(folder.path, folderMode);
  const source = `
    if (process.getuid() === 0) { process.setgid(${NOBODY}); process.setuid(${NOBODY}); }
    await open().then(() => console.log('opened'), (error) => console.log(error.code + '\\n' + error.message));
  `;
  const target = join(folder.path, file);
  const { stdout } = await run(source, [target]);
  chmodSync(folder.path, 0o700);
  const [code, message] = stdout.trim().split('\n');
  expect(code).toBe('store_unusable');
  expect(message).toContain(target);
  expect(message).toMatch(/Check (the|its|that)/);
});
