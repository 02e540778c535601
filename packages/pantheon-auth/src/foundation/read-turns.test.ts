import { expect, test, vi } from 'vitest';
import { TestClock } from '../testing/test-clock.ts';
import { READ_WAIT_MAX_MS, READS_AT_ONCE_MAX, READS_WAITING_MAX, ReadTurns } from './read-turns.ts';

/** Reads that run until they are told to end. The tenant and the caller are told by the first two letters of a name. */
function setUp(atOnceMax = 100) {
  const clock = new TestClock();
  const turns = new ReadTurns({ atOnceMax, clock });
  const running: { readonly name: string; readonly end: () => void }[] = [];
  const begun: string[] = [];
  const ask = (name: string, signal?: AbortSignal): Promise<string> =>
    turns.run({ group: name.charAt(0), member: name.charAt(1) }, signal, async () => {
      begun.push(name);
      await new Promise<void>((resolve) => running.push({ name, end: resolve }));
      return name;
    });
  const endFirst = async (): Promise<void> => {
    running.shift()?.end();
    // Its place is given on after a turn of the event loop.
    for (let turns = 0; turns < 3; turns += 1) await new Promise(setImmediate);
  };
  return { ask, begun, endFirst, turns, clock };
}

test('a tenant has a few reads at a time, in order, and no other tenant waits for them', async () => {
  const { ask, begun, endFirst } = setUp();
  const asked = ['ax1', 'ax2', 'ax3', 'ax4'].map((name) => ask(name));
  const other = ask('bx1');
  await new Promise(setImmediate);
  expect(begun).toEqual(['ax1', 'ax2', 'bx1']);
  await endFirst();
  expect(begun).toEqual(['ax1', 'ax2', 'bx1', 'ax3']);
  for (let n = 0; n < 4; n += 1) await endFirst();
  expect(await Promise.all([...asked, other])).toEqual(['ax1', 'ax2', 'ax3', 'ax4', 'bx1']);
});

test('tenants take turns, and within a tenant its callers', async () => {
  const { ask, begun, endFirst } = setUp(1);
  const asked = ['ax1', 'ax2', 'ax3', 'ay1', 'bx1'].map((name) => ask(name));
  for (let n = 0; n < 5; n += 1) await endFirst();
  expect(begun).toEqual(['ax1', 'ax2', 'bx1', 'ay1', 'ax3']);
  await Promise.all(asked);
});

test('all tenants together have no more reads at once than the store has connections for them', async () => {
  const { ask, begun, endFirst } = setUp(3);
  const asked = Array.from('abcdef', (tenant) => ask(`${tenant}x`));
  await new Promise(setImmediate);
  expect(begun).toHaveLength(3);
  for (let n = 4; n <= 6; n += 1) {
    await endFirst();
    expect(begun).toHaveLength(n);
  }
  for (let n = 0; n < 3; n += 1) await endFirst();
  await Promise.all(asked);
});

test('a caller with too many reads is told to wait, others are not, and an aborted read makes room', async () => {
  const { ask, begun } = setUp(READS_AT_ONCE_MAX);
  const client = new AbortController();
  const ofCaller = READS_AT_ONCE_MAX + READS_WAITING_MAX / 2;
  const all = Array.from({ length: ofCaller - 1 }, (_, n) => ask(`ax${n}`));
  const last = ask('ax-last', client.signal);
  await expect(ask('ax-one too many')).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  client.abort(new Error('gone'));
  await expect(last).rejects.toThrow('gone');
  all.push(ask('ax-in its place'));
  // The other half is another caller's: of a full line the newest of who has most gives way, and who comes has a place.
  all.push(...Array.from({ length: READS_WAITING_MAX / 2 }, (_, n) => ask(`ay${n}`)));
  const codes: unknown[] = [];
  for (const one of all) one.catch(({ code }) => codes.push(code));
  const otherFailed = vi.fn();
  ask('bx').catch(otherFailed);
  await new Promise(setImmediate);
  expect(begun).toHaveLength(READS_AT_ONCE_MAX);
  expect(codes).toEqual(['overloaded']);
  expect(otherFailed).not.toHaveBeenCalled();
});

test('a read that is aborted before its turn is never begun', async () => {
  const { ask, begun, endFirst } = setUp();
  const clients = Array.from({ length: 5 }, () => new AbortController());
  const asked = clients.map((client, n) => ask(`ax${n}`, client.signal));
  for (const one of asked) one.catch(() => {});
  for (const client of clients.slice(2)) client.abort(new Error('gone'));
  const gone = new AbortController();
  gone.abort(new Error('gone before'));
  await expect(ask('ax-dead', gone.signal)).rejects.toThrow('gone before');
  for (let n = 0; n < 3; n += 1) await endFirst();
  expect(begun).toEqual(['ax0', 'ax1']);
  expect((await Promise.allSettled(asked)).map(({ status }) => status)).toEqual([
    'fulfilled',
    'fulfilled',
    'rejected',
    'rejected',
    'rejected',
  ]);
});

test('a read that has waited for five seconds is refused and never begun; a running one is not ended', async () => {
  const { ask, begun, endFirst, clock } = setUp(1);
  const first = ask('ax1');
  const second = ask('ax2');
  const late = ask('bx1');
  clock.advance(READ_WAIT_MAX_MS - 1);
  await endFirst();
  await first;
  clock.advance(1);
  await expect(late).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  await endFirst();
  expect(begun).toEqual(['ax1', 'ax2']);
  expect(await second).toBe('ax2');
  expect(await Promise.race([ask('bx2'), endFirst().then(endFirst)])).toBe('bx2');
});

test('a read that fails makes room like any other', async () => {
  const { ask, begun, endFirst, turns } = setUp();
  const reader = { group: 'a', member: 'x' };
  for (let n = 0; n < 2 * READS_AT_ONCE_MAX; n += 1)
    await expect(turns.run(reader, undefined, () => Promise.reject(new Error('away')))).rejects.toThrow('away');
  const after = ask('ax-after');
  for (let turns = 0; turns < 3; turns += 1) await new Promise(setImmediate);
  expect(begun).toEqual(['ax-after']);
  await endFirst();
  expect(await after).toBe('ax-after');
});

test('the event loop turns between reads that take no time, however many wait', async () => {
  const turns = new ReadTurns({ atOnceMax: 2, clock: new TestClock() });
  const log: string[] = [];
  const reads = Array.from({ length: 6 }, () =>
    turns.run({ group: 'a', member: 'x' }, undefined, async () => void log.push('read')),
  );
  setImmediate(() => log.push('turn'));
  await Promise.all(reads);
  expect(log.slice(0, 3)).toEqual(['read', 'read', 'turn']);
  expect(log).toHaveLength(7);
});
