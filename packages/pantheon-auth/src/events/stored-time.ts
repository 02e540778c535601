/**
 * Whether the clock that a node starts with can be the right one. A clock that is behind what the database has seen would
 * bring back to life what had ended by then, so it is refused; one that is ahead cannot be told from a long rest.
 */
import { CLOCK_DOUBT_MS, DAY_MS, type Instant, momentOf, type NonDecreasingClock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Follower } from './event-feed.ts';
import type { EventNotice, Head } from './ledger.ts';

/** A rest that is longer than this is worth a word: it may be the clock. */
export const REST_MS: number = DAY_MS;
/** After a start so far ahead nothing is deleted for its age within this: time for an operator to look at the clock. */
export const DELETES_NOTHING_MS: number = DAY_MS;

/** An operator said that this is the time, in this event. */
export interface AcceptedTime {
  readonly at: Instant;
  readonly eventId: string;
}

export interface DatedKey {
  readonly tenantId: string;
  readonly keyId: string;
}

/** What the store has recorded of the time. */
export interface StoredTime {
  /** The latest time that it has seen: of an event, of usage that was stored, of a node that started or stopped. */
  latest(): Promise<Instant>;
  /**
   * It was this late. An earlier time changes nothing. `aheadUntil`: until then this may have been by a clock that is
   * ahead; null changes nothing.
   */
  record(at: Instant, aheadUntil?: Instant | null): Promise<void>;
  /** Until when, by the clock that may be ahead, a start that was told of it forbids to delete for age; 0: there was none. */
  aheadUntil(): Promise<Instant>;
  /** The last time that an operator accepted. */
  accepted(): Promise<AcceptedTime | null>;
  /**
   * Keys with events dated after `at`, as the log was when it was begun, in parts. A key may be in several of them. All
   * events are looked at, a bounded number at a time: in a log that a node with a wrong clock and one with a right clock
   * have written to, the order of the events is not that of their dates.
   */
  keysChangedAfter(at: Instant): AsyncIterable<readonly DatedKey[]>;
  /** Last uses of keys that are dated after `at` were then. A bounded number at a time. */
  bringBackUses(at: Instant): Promise<void>;
}

export interface StartOptions {
  readonly clock: NonDecreasingClock;
  readonly time: StoredTime;
  /** Asks for the head of the log, and with it for the time of the store where that is another machine. */
  readonly head: () => Promise<Head>;
  /** Told of a clock that may run ahead. */
  readonly onAhead: (latest: Instant, aheadMs: number) => void;
}

/** What the clocks say at a start. */
export interface ClockReading {
  /** The time, by this machine or, where there is one, by the server of the database. */
  readonly now: Instant;
  /** The latest time that the database has seen. */
  readonly latest: Instant;
}

/**
 * Reads the clocks, and sets this node's by the store's.
 *
 * @throws PantheonError `clock_in_doubt` when this machine and the server of the database are too far apart.
 */
async function readClocks({ clock, time, head }: Omit<StartOptions, 'onAhead'>): Promise<ClockReading> {
  const latest = await time.latest();
  const asked = momentOf(clock);
  const { storeNow } = await head();
  if (storeNow !== null) {
    const withinMs = clock.monotonicMs() - asked.monotonicMs;
    const apartMs = storeNow - asked.wallMs;
    if (apartMs > CLOCK_DOUBT_MS + withinMs || apartMs < -CLOCK_DOUBT_MS)
      throw inDoubt(
        `This machine says ${dateOf(asked.wallMs)} and the server of the database says ${dateOf(storeNow)}. ` +
          'Put the clock that is wrong right (NTP), then start again.',
      );
    clock.syncTo(storeNow, withinMs);
  }
  return { now: clock.now(), latest };
}

/**
 * Begins with the latest time that the store has seen, or refuses. `mayBeBehind`: a clock that is behind those records is
 * answered and not refused, and nothing is set by them: they are about to be corrected.
 *
 * @throws PantheonError `clock_in_doubt`.
 */
export async function startClock(options: StartOptions, mayBeBehind = false): Promise<ClockReading> {
  const { clock, time, onAhead } = options;
  const { now, latest } = await readClocks(options);
  if (isBehind({ now, latest })) {
    if (mayBeBehind) return { now, latest };
    throw inDoubt(
      `The clock says ${dateOf(now)}, and this database was in use at ${dateOf(latest)} by its own records. ` +
        'Put the clock right (NTP), then start again. If the clock is right and the records are wrong: pantheon-auth clock accept',
    );
  }
  const isAhead = latest > 0 && now - latest > REST_MS;
  if (isAhead) onAhead(latest, now - latest);
  clock.advanceTo(latest);
  // The next start, and one of another node, finds the time of this one recorded: it is not ahead of that.
  const leftMs = isAhead ? DELETES_NOTHING_MS : (await time.aheadUntil()) - now;
  if (leftMs > 0) clock.suspectAhead(Math.min(leftMs, DELETES_NOTHING_MS));
  return { now, latest };
}

/** Whether the clock is further behind than clocks drift. */
export function isBehind({ now, latest }: ClockReading): boolean {
  return latest - now > CLOCK_DOUBT_MS;
}

/** Sets the clock of a running node when an operator has accepted another time. */
export class AcceptedTimeFollower implements Follower {
  readonly #time: StoredTime;
  readonly #clock: NonDecreasingClock;
  #known: string | null = null;

  constructor(deps: { readonly time: StoredTime; readonly clock: NonDecreasingClock }) {
    this.#time = deps.time;
    this.#clock = deps.clock;
  }

  /** What was accepted before this start is no news. */
  async start(): Promise<void> {
    this.#known = (await this.#time.accepted())?.eventId ?? null;
  }

  apply(notice: EventNotice): void | Promise<void> {
    if (notice.type === 'store.clock_accepted') return this.reset();
  }

  async reset(): Promise<void> {
    const accepted = await this.#time.accepted();
    if (accepted === null || accepted.eventId === this.#known) return;
    this.#known = accepted.eventId;
    if (Math.abs(this.#clock.now() - accepted.at) > CLOCK_DOUBT_MS) this.#clock.accept(accepted.at);
  }
}

/** For people. */
export function dateOf(instant: Instant): string {
  return new Date(instant).toISOString();
}

function inDoubt(detail: string): PantheonError {
  return new PantheonError('clock_in_doubt', { detail });
}
