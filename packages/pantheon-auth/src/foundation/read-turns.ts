/**
 * Limits how many reads for callers run at once, in total and per tenant. Waiting reads begin round-robin by tenant, and
 * within a tenant by caller, so that a caller with many requests waits for its own and does not slow down others.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from './clock.ts';
import { PantheonError } from './errors.ts';
import { FairQueue, type TurnKey } from './fair-queue.ts';
import { systemTimers, type Timers } from './timers.ts';

/** Of one tenant. A search may read thousands of rows. Two at once leave most of the database to others. */
export const READS_AT_ONCE_MAX = 2;
/** The most waiting reads of all tenants; one caller may have half of them. Further ones would wait too long. */
export const READS_WAITING_MAX = 1_000;
/** A read that has waited this long is not begun, because its caller is likely to have given up. */
export const READ_WAIT_MAX_MS = 5_000;
const RETRY_AFTER_SECONDS = 1;

export interface ReadTurnsOptions {
  /** The most reads at once, of all tenants. */
  readonly atOnceMax: number;
  /** The most reads at once of one tenant. Default {@link READS_AT_ONCE_MAX}. */
  readonly ofTenantMax?: number;
  readonly clock: Clock;
}

interface Waiting {
  readonly begin: () => void;
  readonly turnAway: (error: PantheonError) => void;
}

export class ReadTurns {
  readonly #atOnceMax: number;
  readonly #ofTenantMax: number;
  readonly #timers: Timers;
  readonly #waiting = new FairQueue<Waiting>(READS_WAITING_MAX, READS_WAITING_MAX / 2);
  /** The number of running reads by tenant. Tenants without one have no entry. */
  readonly #running = new Map<string | null, number>();
  #runningInAll = 0;

  constructor({ atOnceMax, ofTenantMax = READS_AT_ONCE_MAX, clock }: ReadTurnsOptions) {
    this.#atOnceMax = atOnceMax;
    this.#ofTenantMax = ofTenantMax;
    this.#timers = clock.timers ?? systemTimers;
  }

  /**
   * Runs `read` when it is its turn; `reader` is the tenant and the caller. Aborting `signal` removes it from the queue
   * before it begins. `read` must not call this again, because it could wait for itself.
   *
   * @throws PantheonError `overloaded` when too many reads wait, or when it waited too long; the reason of `signal`.
   */
  async run<T>(reader: TurnKey, signal: AbortSignal | undefined, read: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    const { group } = reader;
    if (this.#runningInAll < this.#atOnceMax && this.#mayHaveTurn(group)) this.#count(group, 1);
    else await this.#wait(reader, signal);
    try {
      return await read();
    } finally {
      void this.#passOn(group);
    }
  }

  /** First lets the event loop turn, because on SQLite short reads block it. Then starts the next read. */
  async #passOn(tenant: string | null): Promise<void> {
    await nextTurn();
    this.#count(tenant, -1);
    // One place became free. No other was, so at most one waiting read can begin.
    this.#waiting.shift((next) => this.#mayHaveTurn(next))?.begin();
  }

  #mayHaveTurn(tenant: string | null): boolean {
    return (this.#running.get(tenant) ?? 0) < this.#ofTenantMax;
  }

  #count(tenant: string | null, change: 1 | -1): void {
    const running = (this.#running.get(tenant) ?? 0) + change;
    this.#runningInAll += change;
    if (running === 0) this.#running.delete(tenant);
    else this.#running.set(tenant, running);
  }

  async #wait(reader: TurnKey, signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const end = (): void => {
        cancelTimer();
        signal?.removeEventListener('abort', giveUp);
      };
      const waiting: Waiting = {
        begin: () => {
          end();
          this.#count(reader.group, 1);
          resolve();
        },
        turnAway: (error) => {
          end();
          reject(error);
        },
      };
      const leave = (reason: unknown): void => {
        end();
        this.#waiting.remove(waiting, reader);
        reject(reason);
      };
      const giveUp = (): void => leave(signal?.reason);
      const cancelTimer = this.#timers.after(READ_WAIT_MAX_MS, () =>
        leave(overloaded('Reads before this one took too long.')),
      );
      signal?.addEventListener('abort', giveUp, { once: true });
      for (const { turnAway } of this.#waiting.push(waiting, reader)) turnAway(overloaded(TOO_MANY));
    });
  }
}

const TOO_MANY = 'Too many reads wait, most of them of this caller or of its tenant. Wait for their answers.';

function overloaded(detail: string): PantheonError {
  return new PantheonError('overloaded', { detail, retryAfterSeconds: RETRY_AFTER_SECONDS });
}
