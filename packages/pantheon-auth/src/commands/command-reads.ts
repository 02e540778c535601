/**
 * Limits how many reads of commands run at once, in turn by tenant and caller. Commands that end access have their own
 * queue.
 */
import type { Lane } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import { ReadTurns } from '../foundation/read-turns.ts';

export class CommandReads {
  readonly #turns: Readonly<Record<Lane, ReadTurns>>;

  constructor(atOnceMax: Readonly<Record<Lane, number>>, clock: Clock) {
    // These reads are short, so one tenant may use all places while no other waits.
    const turns = (lane: Lane): ReadTurns =>
      new ReadTurns({ atOnceMax: atOnceMax[lane], ofTenantMax: atOnceMax[lane], clock });
    this.#turns = { ordinary: turns('ordinary'), protective: turns('protective') };
  }

  /** Runs `read` when it is its turn. `read` must not call this again. @throws PantheonError `overloaded`. */
  run<T>(lane: Lane, reader: TurnKey, read: () => Promise<T>): Promise<T> {
    return this.#turns[lane].run(reader, undefined, read);
  }
}
