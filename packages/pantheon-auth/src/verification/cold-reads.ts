/**
 * Reads of keys that are not in memory. Two lanes, each with its own connections of the pool and its own queue, so that
 * ids which may be invented, and senders whose reads matched no secret, wait behind each other and behind nobody else (I9).
 * Many who ask for one key are one read, in whichever line its turn comes first.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PantheonError } from '../foundation/errors.ts';
import { FairQueue, type TurnKey } from '../foundation/fair-queue.ts';

/** `main`: ids that this store issued. `doubtful`: ids that it may not have issued, and senders that owe for reads. */
export type Lane = 'main' | 'doubtful';

/** Requests that may wait in one lane. Beyond it, waiting would be longer than clients do. */
export const COLD_READS_WAITING_MAX = 1_000;
/** Of the reads under way at once, those in the lane `doubtful`. */
const DOUBTFUL_SHARE = 0.25;

/** Where in the queue of reads something waits. Turns go round the owners, and within each owner round its accounts. */
export interface ReadQueueKey {
  readonly lane: Lane;
  readonly owner: string;
  readonly account: string;
}

/** A read that is wanted, or under way. */
interface ColdRead<T> {
  readonly id: string;
  /** Those who wait for it to begin, by the name of their line. */
  readonly tickets: Map<string, Ticket<T>>;
  /** Null: it has not begun. */
  outcome: Promise<T> | null;
  /** An event named this key while it was read: the result goes to those who wait for it, and is not cached. */
  invalidatedDuringLoad: boolean;
}

interface Ticket<T> {
  readonly read: ColdRead<T>;
  readonly queueKey: ReadQueueKey;
  readonly answer: PromiseWithResolvers<T>;
}

interface LaneState<T> {
  readonly readsMax: number;
  readonly queue: FairQueue<Ticket<T>>;
  readsUnderWay: number;
}

export class ColdReads<T> {
  readonly #load: (id: string, isInvalidated: () => boolean) => Promise<T>;
  readonly #lanes: Readonly<Record<Lane, LaneState<T>>>;
  readonly #reads = new Map<string, ColdRead<T>>();

  /** @param readsMax reads under way at once, in both lanes together (one in each at least). */
  constructor(deps: {
    readonly load: (id: string, isInvalidated: () => boolean) => Promise<T>;
    readonly readsMax: number;
  }) {
    this.#load = deps.load;
    const doubtful = Math.max(1, Math.floor(deps.readsMax * DOUBTFUL_SHARE));
    const lane = (readsMax: number): LaneState<T> => {
      return { readsMax, queue: new FairQueue(COLD_READS_WAITING_MAX), readsUnderWay: 0 };
    };
    this.#lanes = { main: lane(Math.max(1, deps.readsMax - doubtful)), doubtful: lane(doubtful) };
  }

  /**
   * Reads it, together with everyone who asks for the same key before an event invalidates the read.
   *
   * @throws PantheonError `overloaded` when too many wait in this lane, and of them most in this line.
   */
  read(id: string, queueKey: ReadQueueKey): Promise<T> {
    const read = this.#reads.get(id) ?? this.#newRead(id);
    if (read.outcome !== null) return read.outcome;
    const name = nameOf(queueKey);
    const waiting = read.tickets.get(name);
    if (waiting !== undefined) return waiting.answer.promise;

    const lane = this.#lanes[queueKey.lane];
    if (lane.readsUnderWay < lane.readsMax) return this.#begin(read, lane);
    const ticket = { read, queueKey, answer: Promise.withResolvers<T>() };
    read.tickets.set(name, ticket);
    const dropped = lane.queue.push(ticket, turnKeyOf(queueKey));
    if (dropped !== null) this.#turnAway(dropped);
    return ticket.answer.promise;
  }

  /** The result of a read of this key that is under way is not cached, and nobody who comes later joins that read. */
  invalidate(id: string): void {
    const read = this.#reads.get(id);
    // One that has not begun reads what the event made true.
    if (read === undefined || read.outcome === null) return;
    read.invalidatedDuringLoad = true;
    this.#reads.delete(id);
  }

  invalidateAll(): void {
    for (const id of this.#reads.keys()) this.invalidate(id);
  }

  #newRead(id: string): ColdRead<T> {
    const read: ColdRead<T> = { id, tickets: new Map(), outcome: null, invalidatedDuringLoad: false };
    this.#reads.set(id, read);
    return read;
  }

  #begin(read: ColdRead<T>, lane: LaneState<T>): Promise<T> {
    lane.readsUnderWay += 1;
    const outcome = this.#load(read.id, () => read.invalidatedDuringLoad);
    read.outcome = outcome;
    this.#answerWaiting(read, outcome);
    const done = (): void => void this.#end(read, lane);
    outcome.then(done, done);
    return outcome;
  }

  /** Whoever waits for this read, in any line, need not wait for a turn any more. */
  #answerWaiting(read: ColdRead<T>, outcome: Promise<T>): void {
    for (const ticket of read.tickets.values()) {
      this.#lanes[ticket.queueKey.lane].queue.remove(ticket, turnKeyOf(ticket.queueKey));
      outcome.then(ticket.answer.resolve, ticket.answer.reject);
    }
    read.tickets.clear();
  }

  /** The next in line begins, after a turn of the event loop for others: SQLite reads block it. */
  async #end(read: ColdRead<T>, lane: LaneState<T>): Promise<void> {
    if (this.#reads.get(read.id) === read) this.#reads.delete(read.id);
    await nextTurn();
    lane.readsUnderWay -= 1;
    const next = lane.queue.shift();
    // Its error is told to those who wait for it.
    if (next !== null) void this.#begin(next.read, lane).catch(() => {});
  }

  /** Its read goes on without it if others wait for it elsewhere. */
  #turnAway({ read, queueKey, answer }: Ticket<T>): void {
    read.tickets.delete(nameOf(queueKey));
    if (read.tickets.size === 0) this.#reads.delete(read.id);
    answer.reject(new PantheonError('overloaded', { retryAfterSeconds: 1 }));
  }
}

function turnKeyOf({ owner, account }: ReadQueueKey): TurnKey {
  return { group: owner, member: account };
}

function nameOf({ lane, owner, account }: ReadQueueKey): string {
  return `${lane} ${owner} ${account}`;
}
