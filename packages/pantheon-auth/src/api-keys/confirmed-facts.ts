/**
 * How old an answer may be. *A yes has an age* (I4): every fact behind it was true at most `stalenessMax` ago. *Only a
 * fact confirmed after the request arrived may say no* (I5). The rules are here once; API keys and tokens both judge
 * through them.
 */
import type { Denial } from '../domain/verification.ts';
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Ready } from '../foundation/readiness.ts';
import type { Finding, KnownKey, VerificationCache } from './verification-cache.ts';

/** Revocation reaches every node within this, even when the feed has stalled. One value in the database. */
export const STALENESS_MAX_MS_DEFAULT = 1_000;
/** Less than a head read takes on a busy network would refuse everything; more would not be called a bound. */
export const STALENESS_MS_LEAST = 100;
export const STALENESS_MS_MOST = 60_000;
/** A fact that changes this often while one request is judged is no ground for an answer. */
const ROUNDS_MAX = 4;

/** A judgement of facts. `proved` is what the caller proved to be; null in a no: nothing. */
export type Judgement<T> =
  | { readonly yes: true; readonly proved: T }
  | { readonly yes: false; readonly denial: Denial; readonly proved: T | null };

/** Judges facts at a time. */
export type Judge<T> = (facts: KnownKey | null, now: Instant) => Judgement<T>;

export type Confirmed<T> = Judgement<T> & { readonly asOf: Moment };

export class ConfirmedFacts {
  readonly #cache: VerificationCache;
  readonly #feed: EventFeed;
  readonly #clock: Clock;
  readonly #stalenessMaxMs: number;

  constructor(deps: {
    readonly cache: VerificationCache;
    readonly feed: EventFeed;
    readonly clock: Clock;
    readonly stalenessMaxMs: number;
  }) {
    this.#cache = deps.cache;
    this.#feed = deps.feed;
    this.#clock = deps.clock;
    this.#stalenessMaxMs = deps.stalenessMaxMs;
  }

  /**
   * Judges what is known of a key, again where the first judgement rests on too little. `judge` is pure and may be
   * called several times, with the time at which it judges. The answer is there at once when nothing has to be read.
   *
   * @throws PantheonError `store_unavailable` when nothing can be confirmed in time.
   */
  judge<T>(keyId: string, arrived: Moment, judge: Judge<T>): Ready<Confirmed<T>> {
    const caughtUp = this.#feed.refresh(arrived);
    const remembered = caughtUp === null ? this.#cache.remembered(keyId) : undefined;
    if (remembered === undefined) return this.#judgeWaiting(keyId, arrived, judge, caughtUp);
    const asOf = this.#feed.confirmedAt;
    const judgement = judge(remembered, arrived.wallMs);
    if (this.#settles(judgement, asOf, arrived, arrived)) return { ...judgement, asOf };
    return this.#judgeWaiting(keyId, arrived, judge, this.#confirm(judgement, arrived));
  }

  async #judgeWaiting<T>(
    keyId: string,
    arrived: Moment,
    judge: Judge<T>,
    ready: Promise<void> | null,
  ): Promise<Confirmed<T>> {
    await ready;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const remembered = this.#cache.remembered(keyId);
      const finding: Finding =
        remembered === undefined ? await this.#cache.read(keyId) : { facts: remembered, readAt: null };
      // Revocations of tokens and signing keys are no younger than the feed, however fresh the key was read.
      const asOf = older(finding.readAt, this.#feed.confirmedAt);
      const now = momentOf(this.#clock);
      const judgement = judge(finding.facts, now.wallMs);
      if (this.#settles(judgement, asOf, arrived, now)) return { ...judgement, asOf };
      await this.#confirm(judgement, arrived);
    }
    throw new PantheonError('store_unavailable', {
      detail: 'The facts changed faster than they could be confirmed.',
      retryAfterSeconds: 1,
    });
  }

  #settles<T>(judgement: Judgement<T>, asOf: Moment, arrived: Moment, now: Moment): boolean {
    if (judgement.yes) return this.#isFreshAt(asOf, now);
    return isFinal(judgement.denial) || asOf.monotonicMs >= arrived.monotonicMs;
  }

  /** A yes must be young now; for a no it is enough that it was confirmed after the request arrived. */
  #confirm<T>(judgement: Judgement<T>, arrived: Moment): Promise<void> {
    return this.#feed.confirm(judgement.yes ? this.#clock.monotonicMs() : arrived.monotonicMs);
  }

  /**
   * Makes sure that what is judged next was confirmed at or after that moment. Callers share one look at the head.
   *
   * @throws PantheonError `store_unavailable`.
   */
  confirmSince(moment: Moment): Promise<void> {
    return this.#feed.confirm(moment.monotonicMs);
  }

  /** Whether facts of this key are in memory: then judging it reads nothing. */
  remembers(keyId: string): boolean {
    return (this.#cache.remembered(keyId) ?? null) !== null;
  }

  /** Whether a yes may still rest on this. */
  isFresh(asOf: Moment): boolean {
    return this.#isFreshAt(asOf, momentOf(this.#clock));
  }

  /** Both clocks must agree: one stands still in sleep, the other can be set. */
  #isFreshAt(asOf: Moment, now: Moment): boolean {
    const age = Math.max(now.monotonicMs - asOf.monotonicMs, now.wallMs - asOf.wallMs);
    return age <= this.#stalenessMaxMs;
  }
}

function older(one: Moment | null, other: Moment): Moment {
  return one !== null && one.monotonicMs < other.monotonicMs ? one : other;
}

/** Revoked never changes again, so no confirmation is needed. */
function isFinal(denial: Denial): boolean {
  return denial.code === 'revoked';
}
