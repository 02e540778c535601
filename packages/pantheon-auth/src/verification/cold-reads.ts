/**
 * Reads keys that are not in memory. There are two lanes, each with its own share of connections and its own queue, so
 * that reads of ids that may be invented, and reads for senders whose earlier reads matched no secret, do not delay
 * others (I9). Concurrent requests for one key share one read.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PantheonError } from '../foundation/errors.ts';
import { FairQueue, type TurnKey } from '../foundation/fair-queue.ts';

/**
 * `main`: ids that this database issued. `doubtful`: ids that it may not have issued, and senders whose earlier reads
 * matched no secret.
 */
export type Lane = 'main' | 'doubtful';

/** The most requests that wait in one lane. With more, the wait would exceed the timeouts of clients. */
export const COLD_READS_WAITING_MAX = 1_000;
/** The share of concurrent reads for the lane `doubtful`. */
const DOUBTFUL_SHARE = 0.25;

/** The queue position of a read. The queue is round-robin by owner, and within an owner by account. */
export interface ReadQueueKey {
  readonly lane: Lane;
  readonly owner: string;
  readonly account: string;
}

/** A read that is queued or in progress. */
interface ColdRead<T> {
  readonly id: string;
  /** Requests that wait for it to begin, by queue. */
  readonly tickets: Map<string, Ticket<T>>;
  /** Null: the read has not begun. */
  outcome: Promise<T> | null;
  /** Invalidated while it was being read: return the result to the waiting requests, do not cache it. */
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

  /** @param readsMax concurrent reads in both lanes together, at least one in each. */
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
   * Reads a key. Requests for the same key share one read until an event invalidates it.
   *
   * @throws PantheonError `overloaded` when too many requests wait in this lane and this sender has the most of them.
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
    for (const dropped of lane.queue.push(ticket, turnKeyOf(queueKey))) this.#turnAway(dropped);
    return ticket.answer.promise;
  }

  /** Marks a read of this key that is in progress: its result is not cached, and later requests do not join it. */
  invalidate(id: string): void {
    const read = this.#reads.get(id);
    // A read that has not begun will read the new state.
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

  /** Answers all requests that wait for this read, in any queue. */
  #answerWaiting(read: ColdRead<T>, outcome: Promise<T>): void {
    for (const ticket of read.tickets.values()) {
      this.#lanes[ticket.queueKey.lane].queue.remove(ticket, turnKeyOf(ticket.queueKey));
      outcome.then(ticket.answer.resolve, ticket.answer.reject);
    }
    read.tickets.clear();
  }

  /** Begins the next read after yielding to the event loop, because SQLite reads block it. */
  async #end(read: ColdRead<T>, lane: LaneState<T>): Promise<void> {
    if (this.#reads.get(read.id) === read) this.#reads.delete(read.id);
    await nextTurn();
    lane.readsUnderWay -= 1;
    const next = lane.queue.shift();
    // Its error goes to the requests that wait for it.
    if (next !== null) void this.#begin(next.read, lane).catch(() => {});
  }

  /** Rejects a waiting request. Its read continues if other requests wait for it. */
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
