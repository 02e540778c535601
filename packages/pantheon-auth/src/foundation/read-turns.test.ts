import { expect, test } from 'vitest';
import { READS_AT_ONCE_MAX, READS_WAITING_MAX, ReadTurns } from './read-turns.ts';

/** Reads that run until they are told to end. */
function world() {
  const turns = new ReadTurns();
  const running: { readonly name: string; readonly end: () => void }[] = [];
  const begun: string[] = [];
  const ask = (tenant: string, name: string, signal?: AbortSignal): Promise<string> =>
    turns.run(tenant, signal, async () => {
      begun.push(name);
      await new Promise<void>((resolve) => running.push({ name, end: resolve }));
      return name;
    });
  const endFirst = async (): Promise<void> => {
    running.shift()?.end();
    await new Promise(setImmediate);
  };
  return { ask, begun, endFirst, turns };
}

test('a tenant reads a few at once, in the order it asked, and no other waits for it', async () => {
  const { ask, begun, endFirst } = world();
  const asked = ['a1', 'a2', 'a3', 'a4'].map((name) => ask('a', name));
  const other = ask('b', 'b1');
  await new Promise(setImmediate);
  expect(begun).toEqual(['a1', 'a2', 'b1']);
  await endFirst();
  expect(begun).toEqual(['a1', 'a2', 'b1', 'a3']);
  for (let n = 0; n < 4; n += 1) await endFirst();
  expect(await Promise.all([...asked, other])).toEqual(['a1', 'a2', 'a3', 'a4', 'b1']);
});

test('who asks for too many is told to wait, and one who gave up has made room', async () => {
  const { ask, begun } = world();
  const client = new AbortController();
  const all = Array.from({ length: READS_AT_ONCE_MAX + READS_WAITING_MAX - 1 }, (_, n) => ask('a', `${n}`));
  const last = ask('a', 'last', client.signal);
  await expect(ask('a', 'one too many')).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  client.abort(new Error('gone'));
  await expect(last).rejects.toThrow('gone');
  all.push(ask('a', 'in its place'));
  await new Promise(setImmediate);
  expect(begun).toHaveLength(READS_AT_ONCE_MAX);
  expect(all).toHaveLength(READS_AT_ONCE_MAX + READS_WAITING_MAX);
});

test('what was given up before its turn is never begun', async () => {
  const { ask, begun, endFirst } = world();
  const clients = Array.from({ length: 5 }, () => new AbortController());
  const asked = clients.map((client, n) => ask('a', `${n}`, client.signal));
  for (const one of asked) one.catch(() => {});
  for (const client of clients.slice(2)) client.abort(new Error('gone'));
  const gone = new AbortController();
  gone.abort(new Error('gone before'));
  await expect(ask('a', 'dead', gone.signal)).rejects.toThrow('gone before');
  for (let n = 0; n < 3; n += 1) await endFirst();
  expect(begun).toEqual(['0', '1']);
  expect((await Promise.allSettled(asked)).map(({ status }) => status)).toEqual([
    'fulfilled',
    'fulfilled',
    'rejected',
    'rejected',
    'rejected',
  ]);
});

test('a read that fails gives its place away like any other', async () => {
  const { ask, begun, endFirst, turns } = world();
  for (let n = 0; n < 2 * READS_AT_ONCE_MAX; n += 1)
    await expect(turns.run('a', undefined, () => Promise.reject(new Error('away')))).rejects.toThrow('away');
  const after = ask('a', 'after');
  await new Promise(setImmediate);
  expect(begun).toEqual(['after']);
  await endFirst();
  expect(await after).toBe('after');
});
