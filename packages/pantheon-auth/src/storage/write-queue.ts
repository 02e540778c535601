/**
 * The queue of writes: a bounded number of concurrent transactions, with two lanes. Writes that end access
 * (`protective`) go first and have their own queue space. Each lane is round-robin by tenant and caller. Queue space is
 * counted in places: a small write takes one, a large one takes several, by its size in memory.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Kysely, Transaction } from 'kysely';
import type { Lane, QueueKey } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { FairQueue } from '../foundation/fair-queue.ts';
import { waitingWritesBytesMax } from '../foundation/memory-size.ts';
import type { Tables } from './tables.ts';

/** In places. With more waiting writes the disk is too slow, so further ones are refused. */
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
  /** Whether this protective write may use it. No tenant may use all of it. Called immediately before the write. */
  admits(key: QueueKey): boolean;
  /** Called after the write, also after a rollback. */
  wrote(key: QueueKey): void;
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
  readonly #placeBytes: number;
  readonly #waiting: Readonly<Record<Lane, FairQueue<Waiting>>> = {
    protective: queueOf(WRITES_WAITING_MAX.protective),
    ordinary: queueOf(WRITES_WAITING_MAX.ordinary),
  };
  #taken = 0;
  #closing = false;
  #onIdle: (() => void) | null = null;

  /** @param bytesMax the most memory that waiting writes may take, in both lanes. */
  constructor(
    lanes: WriteLanes,
    clock: Clock,
    reserve: WriteReserve | null = null,
    bytesMax: number = waitingWritesBytesMax(),
  ) {
    this.#lanes = lanes;
    this.#clock = clock;
    this.#reserve = reserve;
    this.#placeBytes = bytesMax / (WRITES_WAITING_MAX.ordinary + WRITES_WAITING_MAX.protective);
    const isShared = lanes.protective === lanes.ordinary;
    const ordinary = deskOf(lanes.ordinary, isShared ? ['protective', 'ordinary'] : ['ordinary']);
    this.#desks = { ordinary, protective: isShared ? ordinary : deskOf(lanes.protective, ['protective']) };
  }

  /**
   * Runs `work` in its own transaction, durable when this returns. `work` must await only the given transaction, so
   * that on SQLite it ends within one turn of the event loop. `weigh` returns the bytes held while it waits; it is called only if it waits.
   *
   * @throws PantheonError `overloaded` when too many wait, `store_unavailable` when it waited too long, `store_full`
   * while the remaining disk space is reserved for other writes, `shutting_down` after {@link WriteQueue.close},
   * and errors of the database.
   */
  async run<T>(
    key: QueueKey,
    work: (transaction: Transaction<Tables>) => Promise<T>,
    weigh: () => number = () => 0,
  ): Promise<T> {
    if (this.#closing) throw new PantheonError('shutting_down', { detail: 'The database is closed.' });
    const arrivedMs = this.#clock.monotonicMs();
    const desk = this.#desks[key.lane];
    this.#taken += 1;
    let hasTurn = false;
    try {
      await this.#turn(desk, key, weigh);
      hasTurn = true;
      return await this.#begin(key, work, arrivedMs);
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

  #turn(desk: Desk, key: QueueKey, weigh: () => number): Promise<void> | void {
    if (desk.underWay < desk.atOnceMax) {
      desk.underWay += 1;
      return;
    }
    const places = Math.max(1, Math.ceil(weigh() / this.#placeBytes));
    return new Promise((go, turnAway) => {
      const turnKey = { group: key.tenantId, member: key.callerId };
      for (const refused of this.#waiting[key.lane].push({ go, turnAway }, turnKey, places))
        refused.turnAway(new PantheonError('overloaded', { retryAfterSeconds: 1 }));
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

  async #begin<T>(
    key: QueueKey,
    work: (transaction: Transaction<Tables>) => Promise<T>,
    arrivedMs: number,
  ): Promise<T> {
    if (this.#clock.monotonicMs() - arrivedMs > WRITE_WAIT_MAX_MS) {
      const detail = 'Writes before this one took too long.';
      throw new PantheonError('store_unavailable', { detail, retryAfterSeconds: 1 });
    }
    const attempt = (): Promise<T> => this.#lanes[key.lane].db.transaction().execute(work);
    // Checked in both lanes, because while the disk is nearly full writes also checkpoint more often.
    const isSpent = this.#reserve?.isSpent() === true;
    if (key.lane === 'protective') return this.#withReserve(key, attempt);
    if (isSpent) throw new PantheonError('store_full', { detail: 'What is left of the disk is kept for revocations.' });
    return attempt();
  }

  /** On a full disk, repeats the write with the reserved space. The failed attempt was rolled back. */
  async #withReserve<T>(key: QueueKey, attempt: () => Promise<T>): Promise<T> {
    if (this.#reserve?.admits(key) === false)
      throw new PantheonError('store_full', { detail: 'The remaining disk space is reserved for other tenants.' });
    try {
      return await attempt();
    } catch (error) {
      const isFull = error instanceof PantheonError && error.code === 'store_full';
      if (!isFull || this.#reserve?.release() !== true) throw error;
      return await attempt();
    } finally {
      this.#reserve?.wrote(key);
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
