/**
 * Looks up a key: in memory, then by the tag of its id, then in the database. Returns facts with their age.
 * `verification-attempt.ts` decides whether they are fresh enough.
 */
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { SenderBuckets } from '../rate-limit/sender-buckets.ts';
import { type Sender, shareOf } from './sender.ts';
import type { DamagedKey, VersionSecret } from './stored-key.ts';
import type { CachedKey, VerificationCache } from './verification-cache.ts';

/**
 * How old the facts behind an acceptance may be: a revocation is effective on every node within this time, even if the
 * feed has stalled. The database holds one value for all nodes.
 */
export const STALENESS_MAX_MS_DEFAULT = 1_000;
/** A value below the time of a head read on a busy network would turn every verification into a 503. */
const STALENESS_MS_LEAST = 100;
const STALENESS_MS_MOST = 60_000;

export interface LookupResult {
  /** Null: no key has this id, or the key is damaged. */
  readonly facts: CachedKey | null;
  /** The damaged key; null: the key is not damaged, or there is none. */
  readonly damaged: DamagedKey | null;
  /** The secrets of the key; for a damaged key those that can be read. */
  readonly secrets: readonly VersionSecret[];
  /** The moment at which all of this was true. */
  readonly asOf: Moment;
  /** Whether the database was read. */
  readonly wasRead: boolean;
  /** The tag of the id is wrong, so no key of this database can have it. */
  readonly isForged: boolean;
}

/**
 * The result of checking the tag of an id. `issued`: valid under an active secret. `forged`: this database cannot have
 * issued it. `uncertain`: only a read of the database can tell, because the id may be older than tags, its secret has
 * been retired (and may be known to others), or a secret cannot be opened.
 */
export type TagVerdict = 'issued' | 'forged' | 'uncertain';

/** Checks the tags of ids. */
export interface IdTagCheck {
  /** The result is as old as the last confirmation of the event feed, which the caller must check. */
  verdict(id: string): TagVerdict;
}

export class KeyLookup {
  readonly #cache: VerificationCache;
  readonly #tags: IdTagCheck;
  readonly #debts: SenderBuckets;
  readonly #feed: EventFeed;
  readonly #clock: Clock;
  readonly #stalenessMaxMs: number;

  constructor(deps: {
    readonly cache: VerificationCache;
    readonly tags: IdTagCheck;
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
   * Reads the head of the log if that needs no waiting (SQLite). Returns a promise if there are events to apply first.
   */
  refresh(at: Moment): Promise<void> | null {
    return this.#feed.refresh(at);
  }

  /**
   * Makes facts in memory as fresh as those behind an acceptance. Null: they are; on SQLite the head was read for it.
   *
   * @throws PantheonError `store_unavailable`.
   */
  freshen(): Promise<void> | null {
    const at = momentOf(this.#clock);
    const applying = this.#feed.refresh(at);
    if (applying !== null) return applying;
    return this.isFresh(this.#feed.confirmedAt, at) ? null : this.#feed.confirm(at.monotonicMs);
  }

  /** The facts in memory; null: none, or the key is damaged. */
  peek(keyId: string): LookupResult | null {
    const facts = this.#cache.peek(keyId);
    return facts === undefined ? null : this.#fromMemory(facts);
  }

  /**
   * Looks the key up in memory, then by the tag of its id, then in the database, in the lane chosen by the tag and the
   * sender's earlier failures. Null: the facts were too old and have been confirmed, so call it again.
   *
   * @throws PantheonError `overloaded`, `store_unavailable`.
   */
  async find(keyId: string, sender: Sender): Promise<LookupResult | null> {
    const cached = this.peek(keyId);
    if (cached !== null) return cached;
    const damaged = this.#cache.peekDamaged(keyId);
    const verdict = this.#tags.verdict(keyId);
    if (damaged !== null || verdict === 'forged') {
      // The list of tag secrets and the information that a key is damaged must be as fresh as facts behind an
      // acceptance.
      if (this.isFresh(this.#feed.confirmedAt)) return this.#fromMemory(null, damaged, damaged === null);
      await this.#feed.confirm(this.#clock.monotonicMs());
      return null;
    }
    const { owner, account } = shareOf(sender);
    const owes = account !== null && this.#debts.isFull(account);
    const lane = verdict === 'issued' && !owes ? 'main' : 'doubtful';
    // Separate accounts by tag result, so that a flood of invented ids does not delay valid keys behind the same
    // address.
    const read = await this.#cache.read(keyId, { lane, owner, account: `${account} ${verdict}` });
    // Facts about revoked tokens and signing keys are as old as the feed, even if the key was just read.
    const asOf = older(read.readAt, this.#feed.confirmedAt);
    const { facts } = read;
    return {
      facts,
      damaged: read.damaged,
      secrets: secretsOf(facts, read.damaged),
      asOf,
      wasRead: true,
      isForged: false,
    };
  }

  /** Counts for the sender a read of the database that matched no secret. */
  charge(sender: Sender): void {
    const { account } = shareOf(sender);
    if (account !== null) this.#debts.charge(account);
  }

  /**
   * Confirms the facts at or after that moment. Concurrent callers share one read of the head.
   *
   * @throws PantheonError `store_unavailable`.
   */
  confirmSince(monotonicMs: number): Promise<void> {
    return this.#feed.confirm(monotonicMs);
  }

  /**
   * Whether an acceptance may rest on facts of that age. Checked with both clocks, because the monotonic one stops
   * during sleep and the wall clock can be set.
   */
  isFresh(asOf: Moment, now: Moment = momentOf(this.#clock)): boolean {
    const age = Math.max(now.monotonicMs - asOf.monotonicMs, now.wallMs - asOf.wallMs);
    return age <= this.#stalenessMaxMs;
  }

  /** Facts in memory are as old as the last confirmation of the head. */
  #fromMemory(facts: CachedKey | null, damaged: DamagedKey | null = null, isForged = false): LookupResult {
    const asOf = this.#feed.confirmedAt;
    return { facts, damaged, secrets: secretsOf(facts, damaged), asOf, wasRead: false, isForged };
  }
}

const NO_SECRETS: readonly VersionSecret[] = [];

function secretsOf(facts: CachedKey | null, damaged: DamagedKey | null): readonly VersionSecret[] {
  return facts?.secrets ?? damaged?.secrets ?? NO_SECRETS;
}

function older(one: Moment, other: Moment): Moment {
  return one.monotonicMs < other.monotonicMs ? one : other;
}

/**
 * Parses the value in the database. It has an upper bound, since otherwise an acceptance could rest on arbitrarily old
 * facts; `Infinity` and `1e9` are refused.
 */
export function parseStaleness(text: string): number {
  const ms = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : Number.NaN;
  if (ms >= STALENESS_MS_LEAST && ms <= STALENESS_MS_MOST) return ms;
  const detail = `The database says stalenessMaxMs in its table meta, and it is not a number of milliseconds from ${STALENESS_MS_LEAST} to ${STALENESS_MS_MOST}.`;
  throw new PantheonError('store_unusable', { detail });
}
