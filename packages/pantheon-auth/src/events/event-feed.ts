/**
 * How this node follows the log, and how old what it knows may be (I4). The position moves only by applying every event
 * up to it, or by dropping everything that was remembered and adopting the head. What an event means for what is
 * remembered is each follower's own business.
 */
import { type ForwardClock, type Moment, momentOf } from '../foundation/clock.ts';
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
const NOTICES_PER_READ = 1_000;
/** On a store that can be asked without waiting, the head is asked once per turn of the event loop, and in a long turn this often. */
const TURN_MS_MAX = 1;

export class EventFeed {
  readonly #log: LogReader;
  readonly #clock: ForwardClock;
  readonly #followers: Follower[] = [];
  #position = 0;
  #confirmedAt: Moment = { monotonicMs: Number.NEGATIVE_INFINITY, wallMs: Number.NEGATIVE_INFINITY };
  #catchingUp: Promise<void> | null = null;
  #askedThisTurn = false;
  readonly #endOfTurn = (): void => {
    this.#askedThisTurn = false;
  };

  constructor(deps: { readonly log: LogReader; readonly clock: ForwardClock }) {
    this.#log = deps.log;
    this.#clock = deps.clock;
  }

  follow(follower: Follower): void {
    this.#followers.push(follower);
  }

  /** Adopts the head. Followers load what they need after this. */
  async start(): Promise<void> {
    const at = momentOf(this.#clock);
    const head = await this.#log.head();
    this.#clock.atLeast(head.at);
    this.#position = head.seq;
    this.#confirmedAt = at;
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
    const { headNow } = this.#log;
    if (headNow === null) return null;
    if (this.#askedThisTurn && at.monotonicMs - this.#confirmedAt.monotonicMs < TURN_MS_MAX) return null;
    if (!this.#askedThisTurn) {
      this.#askedThisTurn = true;
      setImmediate(this.#endOfTurn);
    }
    return this.#adopt(headNow(), at);
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
    const { headNow } = this.#log;
    const head = headNow === null ? await this.#log.head() : headNow();
    await this.#advance(head, at);
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
    this.#clock.atLeast(head.at);
    const behind = head.seq - this.#position;
    const followed = behind >= 0 && behind <= CATCH_UP_MAX && (await this.#applyUpTo(head.seq));
    if (!followed) {
      for (const follower of this.#followers) await follower.reset();
      this.#position = head.seq;
    }
    if (at.monotonicMs >= this.#confirmedAt.monotonicMs) this.#confirmedAt = at;
  }

  /** False when the log does not continue where this node stands, as after a restore: then nothing remembered is safe. */
  async #applyUpTo(seq: number): Promise<boolean> {
    while (this.#position < seq) {
      const notices = await this.#log.noticesAfter(this.#position, NOTICES_PER_READ);
      if (notices.length === 0) return false;
      for (const notice of notices) {
        if (notice.seq !== this.#position + 1) return false;
        for (const follower of this.#followers) {
          const applied = follower.apply(notice);
          if (applied instanceof Promise) await applied;
        }
        this.#position = notice.seq;
      }
    }
    return true;
  }
}
