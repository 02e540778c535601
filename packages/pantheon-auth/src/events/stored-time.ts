/**
 * Checks the clock of a starting node against the time recorded in the database. A clock behind that time would make
 * expired keys and tokens valid again, so the start is refused. A clock ahead of it cannot be told from a long pause of
 * the service.
 */
import { CLOCK_DOUBT_MS, DAY_MS, type Instant, momentOf, type NonDecreasingClock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Follower } from './event-feed.ts';
import type { EventNotice, Head } from './ledger.ts';

/** A longer pause is logged, because the clock may be wrong. */
export const REST_MS: number = DAY_MS;
/**
 * After a start with a clock so far ahead nothing is deleted because of its age for this time, so that an operator can
 * check the clock.
 */
export const DELETES_NOTHING_MS: number = DAY_MS;

/** A time that an operator accepted, with its event. */
export interface AcceptedTime {
  readonly at: Instant;
  readonly eventId: string;
}

export interface DatedKey {
  readonly tenantId: string;
  readonly keyId: string;
}

/** The recorded time of the database. */
export interface StoredTime {
  /** The latest recorded time: of an event, of stored usage, of a start or stop of a node. */
  latest(): Promise<Instant>;
  /**
   * Records a time; an earlier one changes nothing. `aheadUntil`: until then nothing may be deleted because of its age,
   * since the clock may be ahead; null changes nothing.
   */
  record(at: Instant, aheadUntil?: Instant | null): Promise<void>;
  /**
   * Until when nothing may be deleted because of its age, after a start with a clock that may be ahead; 0: no such
   * start.
   */
  aheadUntil(): Promise<Instant>;
  /** The last accepted time; null: none. */
  accepted(): Promise<AcceptedTime | null>;
  /**
   * Keys with events dated after `at`, in parts; a key may be in several. Reads all events that exist at the beginning,
   * a bounded number at a time, because events are not in the order of their dates if nodes with different clocks wrote
   * them.
   */
  keysChangedAfter(at: Instant): AsyncIterable<readonly DatedKey[]>;
  /** Sets times of last use after `at` to `at`, a bounded number of rows at a time. */
  bringBackUses(at: Instant): Promise<void>;
}

export interface StartOptions {
  readonly clock: NonDecreasingClock;
  readonly time: StoredTime;
  /** Reads the head of the log, and with it the time of the database server if that is another machine. */
  readonly head: () => Promise<Head>;
  /** Called when the clock may be ahead. */
  readonly onAhead: (latest: Instant, aheadMs: number) => void;
}

/** The readings of the clocks at a start. */
export interface ClockReading {
  /** The current time, of the database server if there is one, otherwise of this machine. */
  readonly now: Instant;
  /** The latest time recorded in the database. */
  readonly latest: Instant;
}

/**
 * Reads the clocks, and adjusts this node's clock to the database's.
 *
 * @throws PantheonError `clock_in_doubt` when the clocks of this machine and the database server differ too much.
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
          'Correct the wrong clock (NTP), then start again.',
      );
    clock.syncTo(storeNow, withinMs);
  }
  return { now: clock.now(), latest };
}

/**
 * Starts the clock at the latest recorded time, or throws. `mayBeBehind`: returns the readings for a clock behind the
 * recorded time instead of throwing, and does not use the recorded time, which is about to be corrected.
 *
 * @throws PantheonError `clock_in_doubt`.
 */
export async function startClock(options: StartOptions, mayBeBehind = false): Promise<ClockReading> {
  const { clock, time, onAhead } = options;
  const { now, latest } = await readClocks(options);
  if (isBehind({ now, latest })) {
    if (mayBeBehind) return { now, latest };
    throw inDoubt(
      `The clock says ${dateOf(now)}, but this database has recorded the time ${dateOf(latest)}. ` +
        'Correct the clock (NTP), then start again. If the clock is right and the recorded time is wrong: pantheon-auth clock accept',
    );
  }
  const isAhead = latest > 0 && now - latest > REST_MS;
  if (isAhead) onAhead(latest, now - latest);
  clock.advanceTo(latest);
  // The end of this period is recorded, because the next start finds the recorded time no longer behind the clock.
  const leftMs = isAhead ? DELETES_NOTHING_MS : (await time.aheadUntil()) - now;
  if (leftMs > 0) clock.suspectAhead(Math.min(leftMs, DELETES_NOTHING_MS));
  return { now, latest };
}

/** Whether the clock is further behind than normal drift. */
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

  /** A time accepted before this start is already in effect. */
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

/** The time as readable text. */
export function dateOf(instant: Instant): string {
  return new Date(instant).toISOString();
}

function inDoubt(detail: string): PantheonError {
  return new PantheonError('clock_in_doubt', { detail });
}
