/**
 * Follows the log on this node, and knows when its caches were last confirmed (I4). The position advances only by
 * applying every event up to it, or by resetting all followers and continuing from the head. Each follower decides what
 * an event means for its cache.
 */
import { randomInt } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { EVENT_TYPES, isEventType } from '../domain/event-data.ts';
import { type Moment, momentOf, type NonDecreasingClock } from '../foundation/clock.ts';
import { isPromise } from '../foundation/is-promise.ts';
import type { EventNotice, Head, LogReader } from './ledger.ts';

/** A cache of access state. */
export interface Follower {
  /** Drops or reloads what the event changes. The position advances when this is done. */
  apply(notice: EventNotice): void | Promise<void>;
  /** Drops everything, because the events in between are not applied. */
  reset(): void | Promise<void>;
}

/** The most events that are applied one by one. With more, resetting the followers is cheaper. */
export const CATCH_UP_MAX = 10_000;
/**
 * Reading and applying so many takes a few milliseconds, after which the event loop continues: SQLite reads block it.
 */
const NOTICES_PER_READ = 200;
/** On SQLite the head is read once per turn of the event loop, and in a long turn this often. */
const TURN_MS_MAX = 1;
/**
 * On PostgreSQL the head is read about ten times a second, so that a node learns of a change in a tenth of
 * `stalenessMax` even if all notifications are lost. Random within a range, so that nodes do not read at the same time.
 */
const HEAD_POLL_MS_MIN = 75;
const HEAD_POLL_MS_MAX = 125;

/** Receives reports when the log cannot be followed, and when it can again. */
export interface FeedWatcher {
  /** Called once when the log cannot be read. Verifications continue while cached facts are fresh enough. */
  onStalled(error: unknown): void;
  onFollowing(): void;
}

export class EventFeed {
  readonly #log: LogReader;
  readonly #clock: NonDecreasingClock;
  readonly #watcher: FeedWatcher;
  readonly #followers: Follower[] = [];
  #position = 0;
  /** The id of the event at the position; null: not known yet. */
  #eventId: string | null = null;
  /** The database server that answered last. */
  #server: string | null = null;
  #confirmedAt: Moment = { monotonicMs: Number.NEGATIVE_INFINITY, wallMs: Number.NEGATIVE_INFINITY };
  #catchingUp: Promise<void> | null = null;
  /** The events that a read of the head in this turn found, while they are applied. */
  #applying: Promise<void> | null = null;
  #askedThisTurn = false;
  readonly #endOfTurn = (): void => {
    this.#askedThisTurn = false;
  };
  #poll: NodeJS.Timeout | null = null;
  #isNotified = false;
  #isPolling = false;
  #isStalled = false;
  #isClosed = false;

  constructor(deps: { readonly log: LogReader; readonly clock: NonDecreasingClock; readonly watcher?: FeedWatcher }) {
    this.#log = deps.log;
    this.#clock = deps.clock;
    this.#watcher = deps.watcher ?? UNWATCHED;
  }

  follow(follower: Follower): void {
    this.#followers.push(follower);
  }

  /** Takes the head as position and follows the log from there. Followers load their data after this. */
  async start(): Promise<void> {
    const at = momentOf(this.#clock);
    const head = await this.#log.head();
    this.#syncTo(head, at);
    this.#setPosition(head.seq, head.eventId);
    this.#server = head.server;
    this.#confirmedAt = at;
    if (this.#log.headSync !== null) return;
    this.#log.onNotify?.(() => this.#notified());
    this.#schedule();
  }

  /** Stops following. Cached facts are no longer confirmed. */
  close(): void {
    this.#isClosed = true;
    if (this.#poll !== null) clearTimeout(this.#poll);
    this.#poll = null;
  }

  /** The `seq` up to which this node has applied every event. */
  get position(): number {
    return this.#position;
  }

  /** The last moment at which the log had no event beyond the position. */
  get confirmedAt(): Moment {
    return this.#confirmedAt;
  }

  /**
   * On SQLite, reads the head, at most once per turn of the event loop, so that several processes on one file see
   * changes at once. Returns a promise only if there are events to apply.
   */
  refresh(at: Moment): Promise<void> | null {
    const { headSync } = this.#log;
    if (headSync === null) return null;
    // Who comes while the events of this turn are applied waits for them too: until then the caches are older than the head.
    if (this.#askedThisTurn && at.monotonicMs - this.#confirmedAt.monotonicMs < TURN_MS_MAX) return this.#applying;
    const head = headSync();
    if (!this.#askedThisTurn) {
      this.#askedThisTurn = true;
      setImmediate(this.#endOfTurn);
    }
    const applying = this.#adopt(head, at);
    this.#applying = applying;
    applying?.then(
      () => this.#endApplying(applying),
      () => {
        this.#endApplying(applying);
        // The caches are still behind the head: the next request reads it again.
        this.#askedThisTurn = false;
      },
    );
    return applying;
  }

  #endApplying(applying: Promise<void>): void {
    if (this.#applying === applying) this.#applying = null;
  }

  /** Confirms the caches of this node at or after `sinceMonotonicMs`. Concurrent callers share one read. */
  async confirm(sinceMonotonicMs: number): Promise<void> {
    while (this.#confirmedAt.monotonicMs < sinceMonotonicMs) await this.#confirmTogether();
  }

  /** Begins a confirmation, or joins the one in progress. */
  #confirmTogether(): Promise<void> {
    this.#catchingUp ??= this.#confirmNow().finally(() => {
      this.#catchingUp = null;
    });
    return this.#catchingUp;
  }

  async #confirmNow(): Promise<void> {
    const at = momentOf(this.#clock);
    const { headSync } = this.#log;
    try {
      const head = headSync === null ? await this.#log.head() : headSync();
      await this.#advance(head, at);
      this.#watch(null);
    } catch (error) {
      this.#watch(error);
      throw error;
    }
  }

  /** Without new events it only notes the time. Otherwise all callers wait for one shared catch-up. */
  #adopt(head: Head, at: Moment): Promise<void> | null {
    if (head.seq === this.#position) {
      if (at.monotonicMs >= this.#confirmedAt.monotonicMs) this.#confirmedAt = at;
      return null;
    }
    return this.#catchUpWith(head);
  }

  /** Compares the head and not the time, which may be the same as at the last confirmation. */
  async #catchUpWith(head: Head): Promise<void> {
    // A confirmation in progress may have read an older head; one that begins after it cannot.
    if (this.#catchingUp !== null) await this.#catchingUp;
    if (this.#position !== head.seq) await this.#confirmTogether();
  }

  async #advance(head: Head, at: Moment): Promise<void> {
    this.#syncTo(head, at);
    const behind = head.seq - this.#position;
    // After a failover the new server may lack events that were read from the old one, even if its log is longer.
    const isSameLog =
      head.server === this.#server && (behind > 0 || (behind === 0 && this.#isAtPosition(head.eventId)));
    const followed = isSameLog && behind <= CATCH_UP_MAX && (await this.#applyUpTo(head.seq));
    if (!followed) {
      for (const follower of this.#followers) await follower.reset();
      this.#setPosition(head.seq, head.eventId);
      this.#server = head.server;
    }
    if (at.monotonicMs >= this.#confirmedAt.monotonicMs) this.#confirmedAt = at;
  }

  /** False when the log does not continue at the position, as after a restore. The caches must then be reset. */
  async #applyUpTo(seq: number): Promise<boolean> {
    for (let reads = 0; this.#position < seq; reads += 1) {
      if (reads > 0) await nextTurn();
      // Begins with the event at the position, if known, because a log that lost that event may have become longer
      // since.
      const from = this.#eventId === null ? this.#position + 1 : this.#position;
      const notices = await this.#log.noticesFrom(from, NOTICES_PER_READ);
      const here = from === this.#position ? notices[0] : null;
      if (here !== null && (here?.seq !== this.#position || !this.#isAtPosition(here.id))) return false;
      const news = here === null ? notices : notices.slice(1);
      if (news.length === 0) return false;
      for (const notice of news) {
        if (notice.seq !== this.#position + 1) return false;
        for (const follower of this.#followers) {
          const applied = isKnown(notice) ? follower.apply(notice) : follower.reset();
          if (isPromise(applied)) await applied;
        }
        this.#setPosition(notice.seq, notice.id);
        // An event about a tenant makes followers check all their entries, so the event loop continues after it.
        if (notice.subjectType === 'tenant') await nextTurn();
      }
    }
    return true;
  }

  #setPosition(seq: number, eventId: string | null): void {
    this.#position = seq;
    this.#eventId = eventId;
  }

  /** True unless it is known to be a different event. */
  #isAtPosition(eventId: string | null): boolean {
    return eventId === null || this.#eventId === null || eventId === this.#eventId;
  }

  /** Adjusts the clock by the database and by the date of the last event. */
  #syncTo(head: Head, asked: Moment): void {
    if (head.storeNow !== null) this.#clock.syncTo(head.storeNow, this.#clock.monotonicMs() - asked.monotonicMs);
    this.#clock.advanceTo(head.at);
  }

  /**
   * After a notification of a commit the head is read at once, and again if a read in progress may have been sent
   * before it.
   */
  #notified(): void {
    this.#isNotified = true;
    if (!this.#isPolling) void this.#pollNow();
  }

  #schedule(): void {
    if (this.#isClosed) return;
    if (this.#poll !== null) clearTimeout(this.#poll);
    this.#poll = setTimeout(() => void this.#pollNow(), randomInt(HEAD_POLL_MS_MIN, HEAD_POLL_MS_MAX + 1));
    this.#poll.unref();
  }

  async #pollNow(): Promise<void> {
    if (this.#isPolling || this.#isClosed) return;
    this.#isPolling = true;
    try {
      // A read in progress may have been sent before the notified commit.
      if (this.#catchingUp !== null) await this.#catchingUp;
      do {
        this.#isNotified = false;
        await this.#confirmTogether();
      } while (this.#isNotified && !this.#isClosed);
    } catch {
      // The error has been reported. The next poll tries again.
    }
    this.#isPolling = false;
    this.#schedule();
  }

  #watch(error: unknown): void {
    if (this.#isStalled === (error !== null) || this.#isClosed) return;
    this.#isStalled = error !== null;
    if (error === null) this.#watcher.onFollowing();
    else this.#watcher.onStalled(error);
  }
}

/**
 * An event type of a later version is unknown. The caches must then be reset, because the event could concern any
 * entry.
 */
function isKnown({ type, subjectType }: EventNotice): boolean {
  return isEventType(type) && EVENT_TYPES[type].subject === subjectType;
}

const UNWATCHED: FeedWatcher = { onStalled: () => {}, onFollowing: () => {} };
