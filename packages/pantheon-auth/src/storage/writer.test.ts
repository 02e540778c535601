import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import type { Clock } from '../foundation/clock.ts';
import { NodeSqliteDialect } from './sqlite-dialect.ts';
import type { Tables } from './tables.ts';
import { WRITE_WAIT_MAX_MS, WRITES_WAITING_MAX, Writer } from './writer.ts';

function writerOnMemory(): { readonly writer: Writer; readonly clock: { ms: number } } {
  const state = { ms: 0 };
  const clock: Clock = { now: () => 0, monotonicMs: () => state.ms };
  const dialect = new NodeSqliteDialect({
    database: new DatabaseSync(':memory:'),
    clock,
    role: 'writer',
    onStatement: null,
  });
  return { writer: new Writer(new Kysely<Tables>({ dialect }), clock, 1), clock: state };
}

test('writes run one after the other, in the order they came', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const write = (name: string) =>
    writer.run(async () => {
      log.push(`${name} begins`);
      await Promise.resolve();
      log.push(`${name} ends`);
      return name;
    });
  expect(await Promise.all([write('a'), write('b'), write('c')])).toEqual(['a', 'b', 'c']);
  expect(log).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
});

test('a write that fails does not stop those behind it', async () => {
  const { writer } = writerOnMemory();
  const failed = writer.run(async () => {
    throw new Error('mine');
  });
  const next = writer.run(async () => 2);
  await expect(failed).rejects.toThrow('mine');
  expect(await next).toBe(2);
});

test('the event loop has a turn between two writes', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const first = writer.run(async () => {
    setImmediate(() => log.push('turn'));
    log.push('first');
  });
  const second = writer.run(async () => {
    log.push('second');
  });
  await Promise.all([first, second]);
  expect(log).toEqual(['first', 'turn', 'second']);
});

test('the queue has an end: one more is turned away at once, and there is room again later', async () => {
  const { writer } = writerOnMemory();
  const writes = Array.from({ length: WRITES_WAITING_MAX }, (_, n) => writer.run(async () => n));
  await expect(writer.run(async () => -1)).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  expect(await Promise.all(writes)).toHaveLength(WRITES_WAITING_MAX);
  expect(await writer.run(async () => 1)).toBe(1);
});

test('a write whose turn comes too late is not begun', async () => {
  const { writer, clock } = writerOnMemory();
  const slow = writer.run(async () => {
    clock.ms += WRITE_WAIT_MAX_MS + 1;
  });
  let ran = false;
  const late = writer.run(async () => {
    ran = true;
  });
  await slow;
  await expect(late).rejects.toMatchObject({ code: 'store_unavailable' });
  expect(ran).toBe(false);
});

test('closing waits for the writes that were taken and takes no more', async () => {
  const { writer } = writerOnMemory();
  const log: string[] = [];
  const write = writer.run(async () => log.push('write'));
  const close = writer.close().then(() => log.push('closed'));
  await expect(writer.run(async () => 0)).rejects.toMatchObject({ code: 'shutting_down' });
  await Promise.all([write, close]);
  expect(log).toEqual(['write', 'closed']);
});

test('as many run at once as may, and the others follow in order', async () => {
  const begun: string[] = [];
  const gates: (() => void)[] = [];
  const db = { transaction: () => ({ execute: (work: () => Promise<unknown>) => work() }) };
  const several = new Writer(db as unknown as Kysely<Tables>, { now: () => 0, monotonicMs: () => 0 }, 2);
  const write = (name: string): Promise<void> =>
    several.run(async () => {
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
