/** The queue of writes: transactions begin in the order they came, a bounded number at once, and the queue has an end. */
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
  readonly #atOnceMax: number;
  readonly #waiting: (() => void)[] = [];
  #taken = 0;
  #underWay = 0;
  #closing = false;
  #onIdle: (() => void) | null = null;

  /** @param atOnceMax transactions under way at once: one where there is one connection to write on. */
  constructor(db: Kysely<Tables>, clock: Clock, atOnceMax: number) {
    this.#db = db;
    this.#clock = clock;
    this.#atOnceMax = atOnceMax;
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
    if (this.#taken >= WRITES_WAITING_MAX) throw new PantheonError('overloaded', { retryAfterSeconds: 1 });
    const arrivedMs = this.#clock.monotonicMs();
    this.#taken += 1;
    await this.#turn();
    try {
      return await this.#begin(work, arrivedMs);
    } finally {
      this.#taken -= 1;
      void this.#next();
    }
  }

  /** Takes no more, and waits for those that were taken. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#taken > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  #turn(): Promise<void> | void {
    if (this.#underWay < this.#atOnceMax) this.#underWay += 1;
    else return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The place that is left passes to the next in line, after a turn of the event loop for others: an fsync blocks it. */
  async #next(): Promise<void> {
    await nextTurn();
    const next = this.#waiting.shift();
    if (next !== undefined) {
      next();
      return;
    }
    this.#underWay -= 1;
    if (this.#taken === 0) this.#onIdle?.();
  }

  async #begin<T>(work: (transaction: Transaction<Tables>) => Promise<T>, arrivedMs: number): Promise<T> {
    if (this.#clock.monotonicMs() - arrivedMs > WRITE_WAIT_MAX_MS) {
      const detail = 'Writes before this one took too long.';
      throw new PantheonError('store_unavailable', { detail, retryAfterSeconds: 1 });
    }
    return this.#db.transaction().execute(work);
  }
}
