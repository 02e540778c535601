/**
 * How old an answer may be. *A yes has an age* (I4): every fact behind it was true at most `stalenessMax` ago. *Only a
 * fact confirmed after the request arrived may say no* (I5). The rules are here once; API keys and tokens both judge
 * through them.
 */
import type { Denial } from '../domain/verification.ts';
import type { EventFeed, Moment } from '../events/event-feed.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Finding, KnownKey, VerificationCache } from './verification-cache.ts';

/** Revocation reaches every node within this, even when the feed has stalled. One value in the database. */
export const STALENESS_MAX_MS_DEFAULT = 1_000;
/** A fact that changes this often while one request is judged is no ground for an answer. */
const ROUNDS_MAX = 4;

/** A judgement of facts. `proved` is what the caller proved to be; null in a no: nothing. */
export type Judgement<T> =
  | { readonly yes: true; readonly proved: T }
  | { readonly yes: false; readonly denial: Denial; readonly proved: T | null };

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
   * called several times.
   *
   * @throws PantheonError `store_unavailable` when nothing can be confirmed in time.
   */
  async judge<T>(
    keyId: string,
    arrivedMs: number,
    judge: (facts: KnownKey | null) => Judgement<T>,
  ): Promise<Confirmed<T>> {
    const caughtUp = this.#feed.refresh();
    if (caughtUp !== null) await caughtUp;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const remembered = this.#cache.remembered(keyId);
      const finding: Finding =
        remembered === undefined ? await this.#cache.read(keyId) : { facts: remembered, readAt: null };
      const judgement = judge(finding.facts);
      const asOf = finding.readAt ?? this.#feed.confirmedAt;
      const settled = judgement.yes ? this.isFresh(asOf) : isFinal(judgement.denial) || asOf.monotonicMs >= arrivedMs;
      if (settled) return { ...judgement, asOf };
      await this.#feed.confirm(judgement.yes ? this.#clock.monotonicMs() : arrivedMs);
    }
    throw new PantheonError('store_unavailable', {
      detail: 'The facts changed faster than they could be confirmed.',
      retryAfterSeconds: 1,
    });
  }

  /** Whether facts of this key are in memory: then judging it reads nothing. */
  remembers(keyId: string): boolean {
    return (this.#cache.remembered(keyId) ?? null) !== null;
  }

  /** Whether a yes may still rest on this. Both clocks must agree: one stands still in sleep, the other can be set. */
  isFresh(asOf: Moment): boolean {
    const ageMs = this.#clock.monotonicMs() - asOf.monotonicMs;
    return ageMs <= this.#stalenessMaxMs && this.#clock.now() - asOf.wallMs <= this.#stalenessMaxMs;
  }
}

/** Revoked never changes again, so no confirmation is needed. */
function isFinal(denial: Denial): boolean {
  return denial.code === 'revoked';
}
