import { expect, test } from 'vitest';
import { inTurns } from './turns.ts';

test('the event loop turns after every few items, and the results are in order', async () => {
  let turns = 0;
  let isDone = false;
  const count = (): void => {
    turns += 1;
    if (!isDone) setImmediate(count);
  };
  setImmediate(count);
  expect(await inTurns([1, 2, 3, 4, 5, 6, 7], { perTurn: 2 }, (n) => n * 10)).toEqual([10, 20, 30, 40, 50, 60, 70]);
  isDone = true;
  expect(turns).toBeGreaterThanOrEqual(3);
  expect(await inTurns([], { perTurn: 1 }, () => 1)).toEqual([]);
});

test('an item that no caller waits for is not begun', async () => {
  const client = new AbortController();
  const begun: number[] = [];
  const work = inTurns([1, 2, 3, 4], { perTurn: 2, signal: client.signal }, (n) => {
    begun.push(n);
    if (n === 2) client.abort(new Error('gone'));
  });
  await expect(work).rejects.toThrow('gone');
  expect(begun).toEqual([1, 2]);
});
