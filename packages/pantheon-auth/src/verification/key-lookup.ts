/**
 * What this node knows of a key, and when that was true: from memory, else from the tag of the id, else from the store. It
 * answers with facts and their age. Whether they are young enough for an answer is decided in `verification-attempt.ts`.
 */
import type { EventFeed } from '../events/event-feed.ts';
import { type Clock, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { SenderBuckets } from '../rate-limit/sender-buckets.ts';
import { type Sender, shareOf } from './sender.ts';
import type { DamagedKey, VersionSecret } from './stored-key.ts';
import type { CachedKey, VerificationCache } from './verification-cache.ts';

/** Revocation reaches every node within this, even when the feed has stalled. One value in the database. */
export const STALENESS_MAX_MS_DEFAULT = 1_000;
/** Less than a head read takes on a busy network would refuse everything; more would not be called a bound. */
const STALENESS_MS_LEAST = 100;
const STALENESS_MS_MOST = 60_000;

export interface LookupResult {
  /** Null: no key has this id, or its rows do not open. */
  readonly facts: CachedKey | null;
  /** The key whose rows do not open; null: there is none, or they do. */
  readonly damaged: DamagedKey | null;
  /** The secrets of the key, also of a damaged one as far as they can be read. */
  readonly secrets: readonly VersionSecret[];
  /** When all of this was true. */
  readonly asOf: Moment;
  /** Whether the store was read for it. */
  readonly wasRead: boolean;
  /** The tag of the id is wrong: no key of this store can have it. */
  readonly isForged: boolean;
}

/**
 * What the tag of an id says. `issued`: one of ours in use. `forged`: this store cannot have issued it. `uncertain`: only
 * the database can tell: the id may be older than tags, its secret has been retired (so somebody else may know it), or a
 * secret cannot be opened.
 */
export type TagVerdict = 'issued' | 'forged' | 'uncertain';

/** Reads the tags of ids. */
export interface IdTagCheck {
  /** As true as the position of the event feed: ask when that is young enough. */
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

  /** Asks for the head of the log where that costs no waiting. A promise: there are events to apply first. */
  refresh(at: Moment): Promise<void> | null {
    return this.#feed.refresh(at);
  }

  /** What is in memory; null: nothing, or that the key is damaged. */
  peek(keyId: string): LookupResult | null {
    const facts = this.#cache.peek(keyId);
    return facts === undefined ? null : this.#fromMemory(facts);
  }

  /**
   * From memory, else from the tag of the id, else from the store: in the lane that the tag and the sender's debts give.
   * Null: what this node knows was too old and had to be confirmed first, so it has to be looked up again.
   *
   * @throws PantheonError `overloaded`, `store_unavailable`.
   */
  async find(keyId: string, sender: Sender): Promise<LookupResult | null> {
    const cached = this.peek(keyId);
    if (cached !== null) return cached;
    const damaged = this.#cache.peekDamaged(keyId);
    const verdict = this.#tags.verdict(keyId);
    if (damaged !== null || verdict === 'forged') {
      // The list of tag secrets, and what is known of a damaged key, must be as young as the facts behind a yes.
      if (this.isFresh(this.#feed.confirmedAt)) return this.#fromMemory(null, damaged, damaged === null);
      await this.#feed.confirm(this.#clock.monotonicMs());
      return null;
    }
    const { owner, account } = shareOf(sender);
    const owes = account !== null && this.#debts.isFull(account);
    const lane = verdict === 'issued' && !owes ? 'main' : 'doubtful';
    // Apart by verdict: who floods with invented ids has no influence on the keys of neighbours behind the same address.
    const read = await this.#cache.read(keyId, { lane, owner, account: `${account} ${verdict}` });
    // Revocations of tokens and signing keys are no younger than the feed, however fresh the key was read.
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

  /** Charges the sender for a read of the store that ended without a matching secret. */
  charge(sender: Sender): void {
    const { account } = shareOf(sender);
    if (account !== null) this.#debts.charge(account);
  }

  /**
   * Makes sure that what is found next was confirmed at or after that moment. Callers share one look at the head.
   *
   * @throws PantheonError `store_unavailable`.
   */
  confirmSince(monotonicMs: number): Promise<void> {
    return this.#feed.confirm(monotonicMs);
  }

  /** Whether a yes may rest on facts of that age. Both clocks must agree: one stands still in sleep, the other can be set. */
  isFresh(asOf: Moment, now: Moment = momentOf(this.#clock)): boolean {
    const age = Math.max(now.monotonicMs - asOf.monotonicMs, now.wallMs - asOf.wallMs);
    return age <= this.#stalenessMaxMs;
  }

  /** What is in memory is as old as the last confirmation of the head. */
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

/** One value for all nodes. Without an upper bound a yes would have no age; `Infinity` and `1e9` are not taken for one. */
export function parseStaleness(text: string): number {
  const ms = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : Number.NaN;
  if (ms >= STALENESS_MS_LEAST && ms <= STALENESS_MS_MOST) return ms;
  const detail = `The database says stalenessMaxMs in its table meta, and it is not a number of milliseconds from ${STALENESS_MS_LEAST} to ${STALENESS_MS_MOST}.`;
  throw new PantheonError('store_unusable', { detail });
}
