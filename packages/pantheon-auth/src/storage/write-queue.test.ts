import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import type { QueueKey } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { NodeSqliteDialect } from './sqlite/sqlite-dialect.ts';
import type { Tables } from './tables.ts';
import { PROTECTIVE_IN_A_ROW_MAX, WRITE_WAIT_MAX_MS, WRITES_WAITING_MAX, WriteQueue } from './write-queue.ts';

function writerOnMemory(bytesMax?: number): { readonly writer: WriteQueue; readonly clock: { ms: number } } {
  const state = { ms: 0 };
  const clock: Clock = { now: () => 0, monotonicMs: () => state.ms };
  const dialect = new NodeSqliteDialect({
    database: new DatabaseSync(':memory:'),
    clock,
    role: 'writer',
    onStatement: null,
  });
  const connection = { db: new Kysely<Tables>({ dialect }), atOnceMax: 1 };
  const lanes = { ordinary: connection, protective: connection };
  return { writer: new WriteQueue(lanes, clock, null, bytesMax), clock: state };
}

const ordinary = (callerId: string, tenantId = 'default'): QueueKey => ({ lane: 'ordinary', tenantId, callerId });
const protective = (callerId: string): QueueKey => ({ lane: 'protective', tenantId: 'default', callerId });
const mine = ordinary('mine');

test('writes run one after the other, in order of arrival', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const write = (name: string) =>
    writer.run(mine, async () => {
      log.push(`${name} begins`);
      await Promise.resolve();
      log.push(`${name} ends`);
      return name;
    });
  expect(await Promise.all([write('a'), write('b'), write('c')])).toEqual(['a', 'b', 'c']);
  expect(log).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
});

test('a failed write does not stop later ones', async () => {
  const { writer } = writerOnMemory();
  const failed = writer.run(mine, async () => {
    throw new Error('mine');
  });
  const next = writer.run(mine, async () => 2);
  await expect(failed).rejects.toThrow('mine');
  expect(await next).toBe(2);
});

test('the event loop turns between two writes', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const first = writer.run(mine, async () => {
    setImmediate(() => log.push('turn'));
    log.push('first');
  });
  const second = writer.run(mine, async () => {
    log.push('second');
  });
  await Promise.all([first, second]);
  expect(log).toEqual(['first', 'turn', 'second']);
});

test('the queue is bounded: one write more is refused at once, and there is room again later', async () => {
  const { writer } = writerOnMemory();
  // The first is under way at once, and does not wait.
  const writes = Array.from({ length: WRITES_WAITING_MAX.ordinary + 1 }, (_, n) =>
    writer.run(ordinary(`caller-${n}`), async () => n),
  );
  const more = writer.run(ordinary('caller-1'), async () => -1);
  await expect(more).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  expect(await Promise.all(writes)).toHaveLength(WRITES_WAITING_MAX.ordinary + 1);
  expect(await writer.run(ordinary('caller-1'), async () => 1)).toBe(1);
});

test('a revocation goes before all waiting writes, and has room when others have none', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const writes = Array.from({ length: 1_200 }, (_, n) =>
    writer.run(ordinary(`holder-${n}`), async () => void log.push('rotation')),
  );
  const settled = Promise.allSettled(writes);
  await writer.run(protective('administrator'), async () => void log.push('revocation'));
  // One was under way when it came.
  expect(log).toEqual(['rotation', 'revocation']);
  const outcomes = await settled;
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(WRITES_WAITING_MAX.ordinary + 1);
});

test('one caller with 1,000 waiting writes does not delay the only write of another', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const writes = Array.from({ length: 1_000 }, () => writer.run(ordinary('eager'), async () => void log.push('eager')));
  const settled = Promise.allSettled(writes);
  await writer.run(ordinary('other'), async () => void log.push('other'));
  expect(log.length).toBeLessThanOrEqual(3);
  const outcomes = await settled;
  // The rest was beyond what one caller may have waiting.
  const done = outcomes.filter(({ status }) => status === 'fulfilled');
  expect(done).toHaveLength(WRITES_WAITING_MAX.ordinary / 2 + 1);
});

test('revocations without pause do not stop ordinary writes', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const revocations = Array.from({ length: 100 }, (_, n) =>
    writer.run(protective(`caller-${n}`), async () => void log.push('revocation')),
  );
  await writer.run(mine, async () => void log.push('mine'));
  expect(log.indexOf('mine')).toBe(1 + PROTECTIVE_IN_A_ROW_MAX);
  await Promise.all(revocations);
});

test('one caller cannot fill the lane of revocations', async () => {
  const { writer } = writerOnMemory();
  const work = async (): Promise<void> => {};
  const flood = Array.from({ length: 2_000 }, () => writer.run(protective('stolen'), work));
  const settled = Promise.allSettled(flood);
  await writer.run(protective('administrator'), work);
  const outcomes = await settled;
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(WRITES_WAITING_MAX.protective / 2 + 1);
});

test('if revocations have connections of their own they wait for no other write', async () => {
  const db = { transaction: () => ({ execute: (work: () => Promise<unknown>) => work() }) };
  const connections = () => ({ db: db as unknown as Kysely<Tables>, atOnceMax: 1 });
  const clock: Clock = { now: () => 0, monotonicMs: () => 0 };
  const writer = new WriteQueue({ ordinary: connections(), protective: connections() }, clock);
  let release = (): void => {};
  const stuck = writer.run(mine, () => new Promise<void>((resolve) => (release = resolve)));
  expect(await writer.run(protective('administrator'), async () => 'revoked')).toBe('revoked');
  release();
  await stuck;
  await writer.close();
});

test('a write that has waited too long is not begun', async () => {
  const { writer, clock } = writerOnMemory();
  const slow = writer.run(mine, async () => {
    clock.ms += WRITE_WAIT_MAX_MS + 1;
  });
  let ran = false;
  const late = writer.run(mine, async () => {
    ran = true;
  });
  await slow;
  await expect(late).rejects.toMatchObject({ code: 'store_unavailable' });
  expect(ran).toBe(false);
});

test('closing waits for accepted writes and accepts no more', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const write = writer.run(mine, async () => log.push('write'));
  const close = writer.close().then(() => log.push('closed'));
  await expect(writer.run(mine, async () => 0)).rejects.toMatchObject({ code: 'shutting_down' });
  await Promise.all([write, close]);
  expect(log).toEqual(['write', 'closed']);
});

test('as many writes run at once as may, and the others follow in order', async () => {
  const begun: string[] = [];
  const gates: (() => void)[] = [];
  const db = { transaction: () => ({ execute: (work: () => Promise<unknown>) => work() }) };
  const connection = { db: db as unknown as Kysely<Tables>, atOnceMax: 2 };
  const lanes = { ordinary: connection, protective: connection };
  const several = new WriteQueue(lanes, { now: () => 0, monotonicMs: () => 0 });
  const write = (name: string): Promise<void> =>
    several.run(mine, async () => {
      begun.push(name);
      await new Promise<void>((resolve) => gates.push(resolve));
    });
  const writes = ['a', 'b', 'c', 'd'].map(write);
  const turns = async (): Promise<void> => {
    for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  await turns();
  expect(begun).toEqual(['a', 'b']);
  gates[1]?.();
  await turns();
  expect(begun).toEqual(['a', 'b', 'c']);
  const closed = several.close();
  for (let n = 0; n < 4; n += 1) {
    gates[n]?.();
    await turns();
  }
  await Promise.all([...writes, closed]);
  expect(begun).toEqual(['a', 'b', 'c', 'd']);
});

test('on a full disk a protective write is repeated once with the reserved space, and ordinary ones wait for free space', async () => {
  let given = 0;
  let room = 1;
  const work = async (): Promise<string> => {
    if (room === 0) return 'done';
    throw new PantheonError('store_full');
  };
  const db = { transaction: () => ({ execute: (run: () => Promise<unknown>) => run() }) };
  const connection = { db: db as unknown as Kysely<Tables>, atOnceMax: 1 };
  const reserve = {
    isSpent: () => given > 0,
    release: () => {
      given += 1;
      room -= 1;
      return given === 1;
    },
    admits: () => true,
    wrote: () => {},
  };
  const clock: Clock = { now: () => 0, monotonicMs: () => 0 };
  const writer = new WriteQueue({ ordinary: connection, protective: connection }, clock, reserve);
  // An ordinary one never takes it.
  await expect(writer.run(mine, work)).rejects.toMatchObject({ code: 'store_full' });
  expect(given).toBe(0);
  expect(await writer.run(protective('administrator'), work)).toBe('done');
  await expect(writer.run(mine, work)).rejects.toThrow(/kept for revocations/);
  // Nor is it given for another failure, or without end.
  room = 2;
  await expect(writer.run(protective('administrator'), work)).rejects.toMatchObject({ code: 'store_full' });
  const conflict = async (): Promise<never> => {
    throw new PantheonError('conflict');
  };
  await expect(writer.run(protective('administrator'), conflict)).rejects.toMatchObject({ code: 'conflict' });
  expect(given).toBe(2);
});

test('waiting writes use the queue by size: a few large writes fill it, and small ones of others still fit', async () => {
  const { writer } = writerOnMemory(1_500_000);
  const work = async (): Promise<void> => {};
  // A hundred places each; one caller may have five hundred. The first is under way at once, and does not wait.
  const large = Array.from({ length: 8 }, () => writer.run(ordinary('eager'), work, () => 100_000));
  const more = Array.from({ length: 7 }, () => writer.run(ordinary('other', 'another'), work, () => 100_000));
  const small = writer.run(ordinary('small', 'third'), work, () => 10);
  const outcomes = await Promise.allSettled([...large, ...more]);
  const done = outcomes.map(({ status }) => status === 'fulfilled');
  // One of five large ones gave way to the small one: of two with as many, that of the tenant that came first.
  expect([done.slice(0, 8), done.slice(8)].map((some) => some.filter(Boolean).length)).toEqual([5, 5]);
  for (const one of outcomes) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'overloaded' });
  await small;
});

test('the size of a write that does not have to wait is not computed', async () => {
  const { writer } = writerOnMemory();
  let weighed = 0;
  const weigh = (): number => {
    weighed += 1;
    return 1;
  };
  await writer.run(mine, async () => {}, weigh);
  expect(weighed).toBe(0);
});

test('a protective write without a share of the reserved space is refused before it is begun, and written ones are counted', async () => {
  const wrote: string[] = [];
  const reserve = {
    isSpent: () => true,
    release: () => false,
    admits: ({ tenantId }: QueueKey) => tenantId !== 'greedy',
    wrote: ({ tenantId }: QueueKey) => void wrote.push(String(tenantId)),
  };
  const db = { transaction: () => ({ execute: (run: () => Promise<unknown>) => run() }) };
  const connection = { db: db as unknown as Kysely<Tables>, atOnceMax: 1 };
  const clock: Clock = { now: () => 0, monotonicMs: () => 0 };
  const writer = new WriteQueue({ ordinary: connection, protective: connection }, clock, reserve);
  const greedy = writer.run({ ...protective('one'), tenantId: 'greedy' }, async () => 'done');
  await expect(greedy).rejects.toMatchObject({ code: 'store_full', detail: expect.stringContaining('other tenants') });
  expect(await writer.run(protective('one'), async () => 'done')).toBe('done');
  expect(wrote).toEqual(['default']);
});
