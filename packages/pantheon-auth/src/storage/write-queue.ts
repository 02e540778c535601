/**
 * The queue of writes: a bounded number of transactions at once, and two lanes before them. What ends somebody's access
 * (`protective`) goes first and has its own room; in each lane turns go round the tenants and their callers.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Kysely, Transaction } from 'kysely';
import type { Lane, QueueKey } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { FairQueue } from '../foundation/fair-queue.ts';
import type { Tables } from './tables.ts';

/** More than this waiting means that writes arrive faster than the disk takes them: turning away beats growing. */
export const WRITES_WAITING_MAX: Readonly<Record<Lane, number>> = { ordinary: 1_000, protective: 500 };
/** A write that has waited this long behind others is not begun: its caller has given up, or should. */
export const WRITE_WAIT_MAX_MS = 5_000;
/** After this many protective writes in a row an ordinary one has its turn: revoking without end must not stop the rest. */
export const PROTECTIVE_IN_A_ROW_MAX = 16;

/** Connections that write, and how many transactions run on them at once. */
export interface WriteConnections {
  readonly db: Kysely<Tables>;
  readonly atOnceMax: number;
}

/** The connections of each lane: the same for both where there is one connection that writes. */
export type WriteLanes = Readonly<Record<Lane, WriteConnections>>;

/** Room that is kept for protective writes, where the store is a disk of this machine. */
export interface WriteReserve {
  /** Whether it was given: then nothing else is written. Asked before each write. */
  isSpent(): boolean;
  /** Makes room. False: none could be made. */
  release(): boolean;
}

interface Waiting {
  readonly go: () => void;
  readonly turnAway: (error: PantheonError) => void;
}

/** Connections, and what waits for them. */
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
   * Runs `work` in a transaction of its own: all of it or nothing, durable when it answers. `work` only awaits the
   * transaction it is given, so on SQLite it ends within this turn of the event loop.
   *
   * @throws PantheonError `overloaded` when too many wait, `store_unavailable` when its turn came too late,
   * `store_full` for an ordinary one while the room that is left is kept for others, `shutting_down` after {@link WriteQueue.close}, and what the database says.
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

  /** Takes no more, and waits for those that were taken. */
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

  /** The turn that is left passes to the next in line, after a turn of the event loop for others: an fsync blocks it. */
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
    // Asked in both lanes: what is written while there is little room is written with care for it.
    const isSpent = this.#reserve?.isSpent() === true;
    if (lane === 'protective') return this.#withReserve(attempt);
    if (isSpent) throw new PantheonError('store_full', { detail: 'What is left of the disk is kept for revocations.' });
    return attempt();
  }

  /** On a full disk once more, with the room that is kept for it. What failed was rolled back whole. */
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

/** One caller may have half of the room, so that none can fill it. */
function queueOf(max: number): FairQueue<Waiting> {
  return new FairQueue(max, Math.ceil(max / 2));
}
