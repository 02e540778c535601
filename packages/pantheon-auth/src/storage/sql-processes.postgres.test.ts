/** What several processes on one PostgreSQL, and the sudden end of one, must not break: I2, I3 and I13. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../test/store.ts';
import { insertTenant, sampleEvent } from '../testing/scratch-database.ts';

const MODULES = JSON.stringify({
  postgres: new URL('./postgres/postgres.ts', import.meta.url).href,
  scratch: new URL('../testing/scratch-database.ts', import.meta.url).href,
  clock: new URL('../foundation/clock.ts', import.meta.url).href,
});

/** What every child begins with: `db`, and its arguments. */
const PRELUDE = `
  const modules = ${MODULES};
  const { postgres } = await import(modules.postgres);
  const { insertTenant, sampleEvent } = await import(modules.scratch);
  const { systemClock } = await import(modules.clock);
  const [url, ...args] = process.argv.slice(1);
  const db = await postgres({ url }).open({ clock: systemClock, onWarning: () => {} });
`;

function start(scratch: ScratchDatabase, source: string, args: readonly string[]): ChildProcessWithoutNullStreams {
  const flags = ['--conditions=source', '--input-type=module', '-e', PRELUDE + source, '--', scratch.location, ...args];
  return spawn(process.execPath, flags);
}

async function linesOf(child: ChildProcessWithoutNullStreams): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) lines.push(line);
  return lines;
}

/** Follows the log as a node does, from the head it is told of, until `done` and nothing is left. */
async function follow(scratch: ScratchDatabase, done: () => boolean): Promise<readonly { seq: number; id: string }[]> {
  const db = await scratch.openAgain();
  const seen: { seq: number; id: string }[] = [];
  for (;;) {
    const isLast = done();
    const { seq: head } = await db.log.head();
    const position = seen.length;
    while (seen.length < head) {
      const notices = await db.log.noticesFrom(seen.length + 1, 1 + randomInt(50));
      // What the head said is there, and it begins where this follower stands: nothing earlier may turn up later.
      expect(notices[0]?.seq).toBe(seen.length + 1);
      for (const { seq, subjectId } of notices) {
        expect(seq).toBe(seen.length + 1);
        seen.push({ seq, id: subjectId });
      }
    }
    expect(seen.length).toBeGreaterThanOrEqual(position);
    if (isLast) return seen;
  }
}

const PROCESSES = 4;
const COMMITS = 250;

test('four processes that commit at once, some in conflict: a follower gets every event once, in order (I3)', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({
    changes: [insertTenant({ id: 'shared', tenant_id: 'shared' })],
    events: [sampleEvent({ subjectId: 'shared' })],
  });
  // Eight at a time, so that transactions of all processes overlap; every fifth changes the same row as others do.
  const source = `
    const [name] = args;
    const one = async (n) => {
      const id = name + '-' + n;
      const events = Array.from({ length: 1 + n % 4 }, () => sampleEvent({ subjectId: id }));
      const changes = [insertTenant({ id, tenant_id: id })];
      if (n % 5 === 0) {
        const { revision } = await db.tenants.find('shared');
        changes.push({ kind: 'update', table: 'tenants', where: { id: 'shared' }, set: { name: id }, expectedRevision: revision });
      }
      try {
        console.log('yes ' + (await db.ledger.commit({ changes, events })).seq + ' ' + id + ' ' + events.length);
      } catch (error) {
        if (error.code !== 'conflict') throw error;
        console.log('no 0 ' + id + ' 0');
      }
    };
    let next = 0;
    await Promise.all(Array.from({ length: 8 }, async () => { while (next < ${COMMITS}) await one(next++); }));
    await db.close();
  `;
  let isDone = false;
  const children = Array.from({ length: PROCESSES }, (_, n) => start(scratch, source, [`p${n}`]));
  const errors = children.map((child) => {
    let text = '';
    child.stderr.on('data', (data) => (text += String(data)));
    return () => text;
  });
  const ends = children.map((child) => once(child, 'close'));
  const following = follow(scratch, () => isDone);
  const told = (await Promise.all(children.map(linesOf))).flat();
  expect(await Promise.all(ends)).toEqual(children.map(() => [0, null]));
  expect(errors.map((text) => text())).toEqual(children.map(() => ''));
  isDone = true;
  const seen = await following;

  expect(told).toHaveLength(PROCESSES * COMMITS);
  const answers = told.map((line) => line.split(' ') as [string, string, string, string]);
  const [made, refused] = [answers.filter(([said]) => said === 'yes'), answers.filter(([said]) => said === 'no')];
  expect(refused.length).toBeGreaterThan(0);
  // Each acknowledged commit has its events under the place it was told, side by side; nobody else has any.
  const expected = ['shared'];
  for (const [, seq, id, events] of made)
    for (let at = Number(seq) - Number(events); at < Number(seq); at += 1) expected[at] = id;
  expect(seen.map(({ id }) => id)).toEqual(expected);
  // Rows and events agree: a refused commit left neither.
  const tenants = (await scratch.sql('select id from tenants')).map(({ id }) => id);
  expect(tenants.toSorted()).toEqual([...new Set(expected)].toSorted());
  const conflicting = made.filter(([, , id]) => Number(id.split('-')[1]) % 5 === 0);
  expect(await scratch.db.tenants.find('shared')).toMatchObject({ revision: 1 + conflicting.length });
}, 90_000);

test('after kill -9 of a node at any moment every acknowledged change is stored, and events and rows agree (I2, I13)', async () => {
  await using scratch = await openScratchDatabase();
  const source = `
    const [name] = args;
    await Promise.all(Array.from({ length: 4 }, async (_, lane) => {
      for (let n = 0; ; n += 1) {
        const id = name + '-' + lane + '-' + n;
        await db.ledger.commit({
          changes: [insertTenant({ id, tenant_id: id })],
          events: [sampleEvent({ subjectId: id }), sampleEvent({ subjectId: id })],
        });
        console.log(id);
      }
    }));
  `;
  const acknowledged: string[] = [];
  for (let round = 0; round < 4; round += 1) {
    const child = start(scratch, source, [`r${round}`]);
    const closed = once(child, 'close');
    let left = randomInt(1, 60);
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged.push(line);
      left -= 1;
      if (left === 0) child.kill('SIGKILL');
    }
    expect(await closed).toEqual([null, 'SIGKILL']);
    // Also while the sessions of the dead are still open: they hold nothing that others wait for longer than a moment.
    await scratch.db.ledger.commit({ changes: [], events: [sampleEvent({ subjectId: 'after' })] });
    const tenants = (await scratch.sql('select id from tenants')).map(({ id }) => String(id));
    const kept = new Set(tenants);
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
    const events = await scratch.sql('select seq, subject_id from events order by seq');
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, at) => at + 1));
    expect(await scratch.db.log.head()).toMatchObject({ seq: events.length });
    const byTenant = Map.groupBy(events, ({ subject_id: id }) => String(id));
    byTenant.delete('after');
    expect([...byTenant.keys()].toSorted()).toEqual(tenants.toSorted());
    for (const own of byTenant.values()) expect(own).toHaveLength(2);
  }
}, 60_000);
