/**
 * How old an answer may be. *A yes has an age* (I4): every fact behind it was true at most `stalenessMax` ago. *Only a
 * fact confirmed after the request arrived may say no* (I5). The rules are here once; API keys and tokens both judge
 * through them.
 */
import type { Denial } from '../domain/verification.ts';
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, clockInDoubt, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Ready } from '../foundation/readiness.ts';
import { SenderBuckets } from '../rate-limit/sender-buckets.ts';
import type { IdTags } from './id-tags.ts';
import type { VersionSecret } from './key-storage.ts';
import { type Sender, shareOf } from './sender.ts';
import type { Finding, KnownKey, VerificationCache } from './verification-cache.ts';

/** Revocation reaches every node within this, even when the feed has stalled. One value in the database. */
export const STALENESS_MAX_MS_DEFAULT = 1_000;
/** Less than a head read takes on a busy network would refuse everything; more would not be called a bound. */
const STALENESS_MS_LEAST = 100;
const STALENESS_MS_MOST = 60_000;
/** A fact that changes this often while one request is judged is no ground for an answer. */
const ROUNDS_MAX = 4;

/** A judgement of facts. `proved` is what the caller proved to be; null in a no: nothing. */
export type Judgement<T> =
  | { readonly yes: true; readonly proved: T }
  | { readonly yes: false; readonly denial: Denial; readonly proved: T | null };

/** Judges facts at a time. */
export type Judge<T> = (facts: KnownKey | null, now: Instant) => Judgement<T>;

export type Confirmed<T> = Judgement<T> & { readonly asOf: Moment };

/** What is asked about a key. */
export interface Question<T> {
  readonly keyId: string;
  readonly arrived: Moment;
  /** Pure; may be called several times, with the time at which it judges. */
  readonly judge: Judge<T>;
  /** Whom to charge for a read that proves nothing. */
  readonly sender: Sender;
  /** Whether what was presented proves one of these secrets, of a key whose row does not open. Null: it was proved before. */
  readonly isProvedBy: ((secrets: readonly VersionSecret[]) => boolean) | null;
}

/** A finding, and whether no key can have this id. */
type Found = Finding & { readonly isForged: boolean };

export class ConfirmedFacts {
  readonly #cache: VerificationCache;
  readonly #tags: Pick<IdTags, 'verdict'>;
  readonly #debts: SenderBuckets;
  readonly #feed: EventFeed;
  readonly #clock: Clock;
  readonly #stalenessMaxMs: number;

  constructor(deps: {
    readonly cache: VerificationCache;
    readonly tags: Pick<IdTags, 'verdict'>;
    readonly feed: EventFeed;
    readonly clock: Clock;
    readonly stalenessMaxMs: number;
  }) {
    this.#cache = deps.cache;
    this.#tags = deps.tags;
    this.#debts = new SenderBuckets({ clock: deps.clock });
    this.#feed = deps.feed;
    this.#clock = deps.clock;
    this.#stalenessMaxMs = deps.stalenessMaxMs;
  }

  /**
   * Judges what is known of a key, again where the first judgement rests on too little. The answer is there at once when
   * nothing has to be read.
   *
   * @throws PantheonError `store_unavailable` when nothing can be confirmed in time; `key_quarantined` for a damaged key,
   * unless it is sure that none of its secrets was presented; `overloaded`; `clock_in_doubt`.
   */
  judge<T>(question: Question<T>): Ready<Confirmed<T>> {
    const { keyId, arrived } = question;
    const caughtUp = this.#feed.refresh(arrived);
    const remembered = caughtUp === null ? this.#cache.remembered(keyId) : undefined;
    if (remembered === undefined) return this.#judgeWaiting(question, caughtUp);
    const asOf = this.#feed.confirmedAt;
    const judgement = this.#judged(question, remembered, arrived.wallMs);
    if (this.#settles(judgement, asOf, arrived, arrived)) return { ...judgement, asOf };
    return this.#judgeWaiting(question, this.#confirm(judgement, arrived));
  }

  async #judgeWaiting<T>(question: Question<T>, ready: Promise<void> | null): Promise<Confirmed<T>> {
    const { arrived } = question;
    await ready;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const found = await this.#find(question);
      if (found === null) continue;
      // Revocations of tokens and signing keys are no younger than the feed, however fresh the key was read.
      const asOf = older(found.readAt, this.#feed.confirmedAt);
      const now = momentOf(this.#clock);
      const judgement = this.#judgeFound(question, found, now.wallMs);
      // An id with a wrong tag stays one: that needs no confirmation.
      if (found.isForged || this.#settles(judgement, asOf, arrived, now)) return { ...judgement, asOf };
      await this.#confirm(judgement, arrived);
    }
    throw new PantheonError('store_unavailable', {
      detail: 'The facts changed faster than they could be confirmed.',
      retryAfterSeconds: 1,
    });
  }

  /**
   * From memory, else from the tag of the id, else from the store: in the lane that the tag and the sender's debts give.
   * Null: what this node knows had to be confirmed first.
   */
  async #find({ keyId, sender }: Question<unknown>): Promise<Found | null> {
    const remembered = this.#cache.remembered(keyId);
    if (remembered !== undefined) return { ...NOTHING_READ, facts: remembered };
    const damaged = this.#cache.rememberedDamage(keyId);
    const verdict = this.#tags.verdict(keyId);
    if (damaged !== null || verdict === 'forged') {
      // The list of tag secrets, and what is known of a damaged key, must be as young as the facts behind a yes.
      if (this.isFresh(this.#feed.confirmedAt)) return { ...NOTHING_READ, damaged, isForged: damaged === null };
      await this.#feed.confirm(this.#clock.monotonicMs());
      return null;
    }
    const { owner, account } = shareOf(sender);
    const owes = account !== null && this.#debts.isFull(account);
    const lane = verdict === 'issued' && !owes ? 'main' : 'doubtful';
    // Apart by verdict: who floods with invented ids has no influence on the keys of neighbours behind the same address.
    const place = { lane, owner, account: `${account} ${verdict}` } as const;
    return { ...(await this.#cache.read(keyId, place)), isForged: false };
  }

  #judgeFound<T>(question: Question<T>, { facts, damaged, readAt }: Found, now: Instant): Judgement<T> {
    const { isProvedBy, sender } = question;
    if (damaged !== null) {
      const isProved = isProvedBy === null || (damaged.secrets !== null && isProvedBy(damaged.secrets));
      if (!isProved && readAt !== null) this.#charge(sender);
      // No verdict for its holder, nor, where that cannot be told, for anybody: it could be a false no.
      if (isProved || damaged.secrets === null) throw damaged.error;
      return question.judge(null, now);
    }
    const judgement = this.#judged(question, facts, now);
    if (readAt !== null && !judgement.yes && judgement.proved === null) this.#charge(sender);
    return judgement;
  }

  #charge(sender: Sender): void {
    const { account } = shareOf(sender);
    if (account !== null) this.#debts.charge(account);
  }

  /**
   * The wall clock may have jumped, or it may be right and this process have stood still: what has ended by the wall clock
   * gets no yes, and no verdict either, since nobody knows.
   */
  #judged<T>({ judge }: Question<T>, facts: KnownKey | null, now: Instant): Judgement<T> {
    const judgement = judge(facts, now);
    const doubted = this.#clock.doubted ?? null;
    if (judgement.yes && doubted !== null && doubted > now && !judge(facts, doubted).yes) throw clockInDoubt();
    return judgement;
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

const NOTHING_READ: Found = { facts: null, damaged: null, readAt: null, isForged: false };

function older(one: Moment | null, other: Moment): Moment {
  return one !== null && one.monotonicMs < other.monotonicMs ? one : other;
}

/** Revoked never changes again, so no confirmation is needed. */
function isFinal(denial: Denial): boolean {
  return denial.code === 'revoked';
}

/** One value for all nodes. Without an upper bound a yes would have no age; `Infinity` and `1e9` are not taken for one. */
export function parseStaleness(text: string): number {
  const ms = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : Number.NaN;
  if (ms >= STALENESS_MS_LEAST && ms <= STALENESS_MS_MOST) return ms;
  const detail = `The database says stalenessMaxMs in its table meta, and it is not a number of milliseconds from ${STALENESS_MS_LEAST} to ${STALENESS_MS_MOST}.`;
  throw new PantheonError('store_unusable', { detail });
}
