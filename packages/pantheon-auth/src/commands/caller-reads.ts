/**
 * The only path of reads whose result is shown to a caller: wait in turn, confirm the caller, read, and confirm the caller
 * again if the first confirmation is older than `stalenessMax` by then. Otherwise a revoked key would be answered for as
 * long as its reads wait.
 */
import { readerOf, type ShownRead, type ShownReads } from '../domain/reader.ts';
import type { ReadTurns } from '../foundation/read-turns.ts';
import { type CallerGuard, confirmCaller } from './caller.ts';

export class CallerReads implements ShownReads {
  readonly #turns: ReadTurns;
  readonly #guard: CallerGuard;

  constructor(deps: { readonly turns: ReadTurns; readonly guard: CallerGuard }) {
    this.#turns = deps.turns;
    this.#guard = deps.guard;
  }

  run<T>(shown: ShownRead, read: () => Promise<T>): Promise<T> {
    return this.#turns.run(readerOf(shown.by, shown.tenantId), shown.signal, async () => {
      const { isFresh } = await confirmCaller(shown, this.#guard, 'fresh');
      const result = await read();
      if (!isFresh()) await confirmCaller(shown, this.#guard, 'fresh');
      return result;
    });
  }
}
