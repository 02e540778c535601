/** The one queue of writes: transactions run one after the other, in the order they came, and the queue has an end. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Kysely, Transaction } from 'kysely';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Tables } from './tables.ts';

/** More than this waiting means that writes arrive faster than the disk takes them: turning away beats growing. */
export const WRITES_WAITING_MAX = 1_000;
/** A write that has waited this long behind others is not begun: its caller has given up, or should. */
export const WRITE_WAIT_MAX_MS = 5_000;

export class Writer {
  readonly #db: Kysely<Tables>;
  readonly #clock: Clock;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closing = false;

  constructor(db: Kysely<Tables>, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /**
   * Runs `work` in a transaction of its own: all of it or nothing, durable when it answers. `work` only awaits the
   * transaction it is given, so on SQLite it ends within this turn of the event loop.
   *
   * @throws PantheonError `overloaded` when too many wait, `store_unavailable` when its turn came too late,
   * `shutting_down` after {@link Writer.close}, and what the database says.
   */
  async run<T>(work: (transaction: Transaction<Tables>) => Promise<T>): Promise<T> {
    if (this.#closing) throw new PantheonError('shutting_down', { detail: 'The database is closed.' });
    if (this.#waiting >= WRITES_WAITING_MAX) throw new PantheonError('overloaded', { retryAfterSeconds: 1 });
    this.#waiting += 1;
    const arrivedMs = this.#clock.monotonicMs();
    const turn = this.#last.then(() => this.#begin(work, arrivedMs));
    // Others get a turn of the event loop between two transactions: each of them blocks it for an fsync.
    this.#last = turn.then(rest, rest);
    try {
      return await turn;
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Takes no more, and waits for those that were taken. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#last;
  }

  async #begin<T>(work: (transaction: Transaction<Tables>) => Promise<T>, arrivedMs: number): Promise<T> {
    if (this.#clock.monotonicMs() - arrivedMs > WRITE_WAIT_MAX_MS) {
      const detail = 'Writes before this one took too long.';
      throw new PantheonError('store_unavailable', { detail, retryAfterSeconds: 1 });
    }
    return this.#db.transaction().execute(work);
  }
}

async function rest(): Promise<void> {
  await nextTurn();
}
