/**
 * Splits long work into parts and yields to the event loop between them, so that other requests do not wait for all of
 * it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Runs `work` on each item in order, and yields to the event loop after every `perTurn` items.
 *
 * @throws the reason of `signal` when it is aborted, before the next item is begun; and what `work` throws.
 */
export async function inTurns<Item, Result>(
  items: readonly Item[],
  options: { readonly perTurn: number; readonly signal?: AbortSignal | undefined },
  work: (item: Item) => Result | Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const item of items) {
    if (results.length > 0 && results.length % options.perTurn === 0) await nextTurn();
    options.signal?.throwIfAborted();
    results.push(await work(item));
  }
  return results;
}
