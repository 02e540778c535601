/**
 * The queue of writes: a bounded number of concurrent transactions, with two lanes. Writes that end access
 * (`protective`) go first and have their own queue space. Each lane is round-robin by tenant and caller.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Kysely, Transaction } from 'kysely';
import type { Lane, QueueKey } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { FairQueue } from '../foundation/fair-queue.ts';
import type { Tables } from './tables.ts';

/** With more waiting writes the disk is too slow, so further ones are refused. */
export const WRITES_WAITING_MAX: Readonly<Record<Lane, number>> = { ordinary: 1_000, protective: 500 };
/** A write that has waited this long is not begun, because its caller is likely to have given up. */
export const WRITE_WAIT_MAX_MS = 5_000;
/**
 * After this many protective writes in a row an ordinary one runs, so that continuous revoking does not block other
 * writes.
 */
export const PROTECTIVE_IN_A_ROW_MAX = 16;

/** Connections for writing, and the number of concurrent transactions. */
export interface WriteConnections {
  readonly db: Kysely<Tables>;
  readonly atOnceMax: number;
}

/** The connections of each lane; the same for both when there is one writing connection. */
export type WriteLanes = Readonly<Record<Lane, WriteConnections>>;

/** Reserved disk space for protective writes, when the database is on this machine. */
export interface WriteReserve {
  /** Whether it has been released: then only protective writes are allowed. Checked before each write. */
  isSpent(): boolean;
  /** Releases the reserved space. False: there is none. */
  release(): boolean;
}

interface Waiting {
  readonly go: () => void;
  readonly turnAway: (error: PantheonError) => void;
}

/** Connections and the queue of waiting writes. */
interface Desk {
  readonly atOnceMax: number;
  readonly lanes: readonly Lane[];
  underWay: number;
  protectiveInARow: number;
}

export class WriteQueue {
  readonly #lanes: WriteLanes;
  readonly #desks: Readonly<Record<Lane, Desk>>;
  readonly #clock: Clock;
  readonly #reserve: WriteReserve | null;
  readonly #waiting: Readonly<Record<Lane, FairQueue<Waiting>>> = {
    protective: queueOf(WRITES_WAITING_MAX.protective),
    ordinary: queueOf(WRITES_WAITING_MAX.ordinary),
  };
  #taken = 0;
  #closing = false;
  #onIdle: (() => void) | null = null;

  constructor(lanes: WriteLanes, clock: Clock, reserve: WriteReserve | null = null) {
    this.#lanes = lanes;
    this.#clock = clock;
    this.#reserve = reserve;
    const isShared = lanes.protective === lanes.ordinary;
    const ordinary = deskOf(lanes.ordinary, isShared ? ['protective', 'ordinary'] : ['ordinary']);
    this.#desks = { ordinary, protective: isShared ? ordinary : deskOf(lanes.protective, ['protective']) };
  }

  /**
   * Runs `work` in its own transaction, durable when this returns. `work` must await only the given transaction, so
   * that on SQLite it ends within one turn of the event loop.
   *
   * @throws PantheonError `overloaded` when too many wait, `store_unavailable` when it waited too long, `store_full`
   * for an ordinary write while the remaining disk space is reserved, `shutting_down` after {@link WriteQueue.close},
   * and errors of the database.
   */
  async run<T>(key: QueueKey, work: (transaction: Transaction<Tables>) => Promise<T>): Promise<T> {
    if (this.#closing) throw new PantheonError('shutting_down', { detail: 'The database is closed.' });
    const arrivedMs = this.#clock.monotonicMs();
    const desk = this.#desks[key.lane];
    this.#taken += 1;
    let hasTurn = false;
    try {
      await this.#turn(desk, key);
      hasTurn = true;
      return await this.#begin(key.lane, work, arrivedMs);
    } finally {
      this.#taken -= 1;
      if (hasTurn) void this.#next(desk);
    }
  }

  /** Accepts no more writes, and waits for the accepted ones. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#taken > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  #turn(desk: Desk, key: QueueKey): Promise<void> | void {
    if (desk.underWay < desk.atOnceMax) {
      desk.underWay += 1;
      return;
    }
    return new Promise((go, turnAway) => {
      const refused = this.#waiting[key.lane].push({ go, turnAway }, { group: key.tenantId, member: key.callerId });
      refused?.turnAway(new PantheonError('overloaded', { retryAfterSeconds: 1 }));
    });
  }

  /** Starts the next write after yielding to the event loop, because an fsync blocks it. */
  async #next(desk: Desk): Promise<void> {
    await nextTurn();
    const next = this.#nextOf(desk);
    if (next !== null) {
      next.go();
      return;
    }
    desk.underWay -= 1;
    if (this.#taken === 0) this.#onIdle?.();
  }

  #nextOf(desk: Desk): Waiting | null {
    const isOrdinaryDue = desk.protectiveInARow >= PROTECTIVE_IN_A_ROW_MAX;
    for (const lane of isOrdinaryDue ? desk.lanes.toReversed() : desk.lanes) {
      const next = this.#waiting[lane].shift();
      if (next === null) continue;
      desk.protectiveInARow = lane === 'protective' ? desk.protectiveInARow + 1 : 0;
      return next;
    }
    return null;
  }

  async #begin<T>(lane: Lane, work: (transaction: Transaction<Tables>) => Promise<T>, arrivedMs: number): Promise<T> {
    if (this.#clock.monotonicMs() - arrivedMs > WRITE_WAIT_MAX_MS) {
      const detail = 'Writes before this one took too long.';
      throw new PantheonError('store_unavailable', { detail, retryAfterSeconds: 1 });
    }
    const attempt = (): Promise<T> => this.#lanes[lane].db.transaction().execute(work);
    // Checked in both lanes, because while the disk is nearly full writes also checkpoint more often.
    const isSpent = this.#reserve?.isSpent() === true;
    if (lane === 'protective') return this.#withReserve(attempt);
    if (isSpent) throw new PantheonError('store_full', { detail: 'What is left of the disk is kept for revocations.' });
    return attempt();
  }

  /** On a full disk, repeats the write with the reserved space. The failed attempt was rolled back. */
  async #withReserve<T>(attempt: () => Promise<T>): Promise<T> {
    try {
      return await attempt();
    } catch (error) {
      const isFull = error instanceof PantheonError && error.code === 'store_full';
      if (!isFull || this.#reserve?.release() !== true) throw error;
      return attempt();
    }
  }
}

function deskOf({ atOnceMax }: WriteConnections, lanes: readonly Lane[]): Desk {
  return { atOnceMax, lanes, underWay: 0, protectiveInARow: 0 };
}

/** One caller may have at most half of the queue, so that none can fill it. */
function queueOf(max: number): FairQueue<Waiting> {
  return new FairQueue(max, Math.ceil(max / 2));
}
