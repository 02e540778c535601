/**
 * How this node follows the log, and how old what it knows may be (I4). The position moves only by applying every event
 * up to it, or by dropping everything that was remembered and adopting the head. What an event means for what is
 * remembered is each follower's own business.
 */
import { randomInt } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { EVENT_TYPES, isEventType } from '../domain/event-data.ts';
import { type Moment, momentOf, type NonDecreasingClock } from '../foundation/clock.ts';
import { isPromise } from '../foundation/is-promise.ts';
import type { EventNotice, Head, LogReader } from './ledger.ts';

/** Something that remembers access state. */
export interface Follower {
  /** Forgets or reloads what the event makes stale. The position moves on when it is done. */
  apply(notice: EventNotice): void | Promise<void>;
  /** Forgets everything: too much has happened to follow it one by one. */
  reset(): void | Promise<void>;
}

/** Events applied one by one at most; beyond it, forgetting everything is cheaper than following. */
export const CATCH_UP_MAX = 10_000;
/** A few milliseconds of reading and applying, after which the event loop turns: SQLite reads without waiting. */
const NOTICES_PER_READ = 200;
/** On a store that can be asked without waiting, the head is asked once per turn of the event loop, and in a long turn this often. */
const TURN_MS_MAX = 1;
/**
 * Elsewhere the head is asked for about ten times a second, so that a node whose every notification is lost still knows
 * of a change in a tenth of the time it has. Drawn from a range, so that nodes do not ask in step.
 */
const HEAD_POLL_MS_MIN = 75;
const HEAD_POLL_MS_MAX = 125;

/** How this node follows the log changes: it cannot, or it can again. */
export interface FeedWatcher {
  /** Told once when the log cannot be followed; verifications go on for as long as what is known is young enough. */
  onStalled(error: unknown): void;
  onFollowing(): void;
}

export class EventFeed {
  readonly #log: LogReader;
  readonly #clock: NonDecreasingClock;
  readonly #watcher: FeedWatcher;
  readonly #followers: Follower[] = [];
  #position = 0;
  /** The event at the position; null: not known yet. */
  #eventId: string | null = null;
  /** Who answered last. */
  #server: string | null = null;
  #confirmedAt: Moment = { monotonicMs: Number.NEGATIVE_INFINITY, wallMs: Number.NEGATIVE_INFINITY };
  #catchingUp: Promise<void> | null = null;
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

  /** Adopts the head, and follows it from here on. Followers load what they need after this. */
  async start(): Promise<void> {
    const at = momentOf(this.#clock);
    const head = await this.#log.head();
    this.#syncTo(head, at);
    this.#stand(head.seq, head.eventId);
    this.#server = head.server;
    this.#confirmedAt = at;
    if (this.#log.headSync !== null) return;
    this.#log.onNotify?.(() => this.#notified());
    this.#schedule();
  }

  /** Stops following. What is known ages from here on. */
  close(): void {
    this.#isClosed = true;
    if (this.#poll !== null) clearTimeout(this.#poll);
    this.#poll = null;
  }

  /** The `seq` up to which this node has applied every event. */
  get position(): number {
    return this.#position;
  }

  /** When it was last known that nothing beyond the position had happened. */
  get confirmedAt(): Moment {
    return this.#confirmedAt;
  }

  /**
   * Asks for the head where that costs no waiting, at most once per turn of the event loop, so that several processes
   * on one file agree at once. Answers a promise only when there is something to catch up with.
   */
  refresh(at: Moment): Promise<void> | null {
    const { headSync } = this.#log;
    if (headSync === null) return null;
    if (this.#askedThisTurn && at.monotonicMs - this.#confirmedAt.monotonicMs < TURN_MS_MAX) return null;
    if (!this.#askedThisTurn) {
      this.#askedThisTurn = true;
      setImmediate(this.#endOfTurn);
    }
    return this.#adopt(headSync(), at);
  }

  /** Makes sure that what this node knows was confirmed at or after `sinceMonotonicMs`. Callers share one read. */
  async confirm(sinceMonotonicMs: number): Promise<void> {
    while (this.#confirmedAt.monotonicMs < sinceMonotonicMs) await this.#confirmTogether();
  }

  /** Begins a confirmation, or joins the one that is under way. */
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

  /** Nothing new: a plain assignment. Otherwise one catch-up that everybody waits for. */
  #adopt(head: Head, at: Moment): Promise<void> | null {
    if (head.seq === this.#position) {
      if (at.monotonicMs >= this.#confirmedAt.monotonicMs) this.#confirmedAt = at;
      return null;
    }
    return this.#catchUpWith(head);
  }

  /** By the head and not by the clock, which may not have moved since the last confirmation. */
  async #catchUpWith(head: Head): Promise<void> {
    // One that is under way may have asked for the head before this one was read; whatever begins after it, after.
    if (this.#catchingUp !== null) await this.#catchingUp;
    if (this.#position !== head.seq) await this.#confirmTogether();
  }

  async #advance(head: Head, at: Moment): Promise<void> {
    this.#syncTo(head, at);
    const behind = head.seq - this.#position;
    // What was read from a server that has since been replaced may never have reached the new one, whatever its length.
    const isSameLog =
      head.server === this.#server && (behind > 0 || (behind === 0 && this.#isAtPosition(head.eventId)));
    const followed = isSameLog && behind <= CATCH_UP_MAX && (await this.#applyUpTo(head.seq));
    if (!followed) {
      for (const follower of this.#followers) await follower.reset();
      this.#stand(head.seq, head.eventId);
      this.#server = head.server;
    }
    if (at.monotonicMs >= this.#confirmedAt.monotonicMs) this.#confirmedAt = at;
  }

  /** False when the log does not continue where this node stands, as after a restore: then nothing remembered is safe. */
  async #applyUpTo(seq: number): Promise<boolean> {
    for (let reads = 0; this.#position < seq; reads += 1) {
      if (reads > 0) await nextTurn();
      // With the event at the position, where it is known: a log that lost it may have grown past it since.
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
        this.#stand(notice.seq, notice.id);
        // It makes followers look at everything they know: the longest there is to do for one event.
        if (notice.subjectType === 'tenant') await nextTurn();
      }
    }
    return true;
  }

  #stand(seq: number, eventId: string | null): void {
    this.#position = seq;
    this.#eventId = eventId;
  }

  /** Unless it is known to be another event. */
  #isAtPosition(eventId: string | null): boolean {
    return eventId === null || this.#eventId === null || eventId === this.#eventId;
  }

  /** The clocks of the store and of the log. */
  #syncTo(head: Head, asked: Moment): void {
    if (head.storeNow !== null) this.#clock.syncTo(head.storeNow, this.#clock.monotonicMs() - asked.monotonicMs);
    this.#clock.advanceTo(head.at);
  }

  /** A commit was told of: asked for at once, and again when the question under way may have come before it. */
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
      // A question of somebody else that is under way may have come before what was told of.
      if (this.#catchingUp !== null) await this.#catchingUp;
      do {
        this.#isNotified = false;
        await this.#confirmTogether();
      } while (this.#isNotified && !this.#isClosed);
    } catch {
      // Told where it happened. The next poll is the next attempt.
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

/** What an event of a later version is about cannot be told: then nothing that is remembered is safe. */
function isKnown({ type, subjectType }: EventNotice): boolean {
  return isEventType(type) && EVENT_TYPES[type].subject === subjectType;
}

const UNWATCHED: FeedWatcher = { onStalled: () => {}, onFollowing: () => {} };
