/**
 * What a node remembers of keys: the facts of those that exist and the ids of those that do not. It holds the input of
 * decisions, never a result (I5), and forgets by the events of the log. Reading the store is single-flight: many
 * requests for one key are one read.
 */
import { LRUCache } from 'lru-cache';
import { AddressRanges } from '../domain/address.ts';
import type { KeyFacts } from '../domain/verification.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice } from '../events/ledger.ts';
import { type Clock, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyStorage, VersionSecret } from './key-storage.ts';

/** Facts with what proves them. One object per key; replaced as a whole, never changed. */
export interface KnownKey extends KeyFacts {
  readonly secrets: readonly VersionSecret[];
}

/** What is known, and when it was true. `facts` is null for an id that does not exist. */
export interface Finding {
  readonly facts: KnownKey | null;
  /** Null: it was remembered, so it is as old as the last confirmation of the head. */
  readonly readAt: Moment | null;
}

/** About 2 kB each: the memory that verification may take. Raise it when more keys are in use at once. */
export const KNOWN_KEYS_MAX = 100_000;
/** Unknown ids cost a few bytes; a flood of invented ones pushes out only its own kind. */
export const UNKNOWN_IDS_MAX = 50_000;
/** Requests that may wait for a read. Beyond it, waiting would be longer than clients do. */
export const COLD_READS_WAITING_MAX = 1_000;

interface Reading {
  readonly finding: Promise<Finding>;
  /** An event named this key while it was read: use it, do not remember it. */
  overtaken: boolean;
}

export class VerificationCache implements Follower {
  readonly #storage: KeyStorage;
  readonly #clock: Clock;
  readonly #known: LRUCache<string, KnownKey>;
  readonly #unknown: LRUCache<string, true>;
  readonly #reading = new Map<string, Reading>();
  readonly #waiting: (() => void)[] = [];
  readonly #coldReadsMax: number;
  #readsUnderWay = 0;

  constructor(deps: {
    readonly storage: KeyStorage;
    readonly clock: Clock;
    readonly knownKeysMax?: number;
    /** Reads under way at once: a flood of unknown ids must leave the store to others (I9). */
    readonly coldReadsMax: number;
  }) {
    this.#coldReadsMax = deps.coldReadsMax;
    this.#storage = deps.storage;
    this.#clock = deps.clock;
    this.#known = new LRUCache({ max: deps.knownKeysMax ?? KNOWN_KEYS_MAX });
    this.#unknown = new LRUCache({ max: UNKNOWN_IDS_MAX });
  }

  /** What is remembered of this id; undefined: nothing. */
  remembered(id: string): KnownKey | null | undefined {
    return this.#known.get(id) ?? (this.#unknown.has(id) ? null : undefined);
  }

  /** Reads it from the store, together with everyone who asks for the same key before an event overtakes the read. */
  read(id: string): Promise<Finding> {
    const under = this.#reading.get(id);
    if (under !== undefined) return under.finding;
    const reading: Reading = { finding: this.#readAndRemember(id, () => reading.overtaken), overtaken: false };
    this.#reading.set(id, reading);
    const done = (): void => {
      if (this.#reading.get(id) === reading) this.#reading.delete(id);
    };
    reading.finding.then(done, done);
    return reading.finding;
  }

  /** Forgets one key. A read under way is not remembered, and nobody who comes later joins it. */
  forget(id: string): void {
    this.#known.delete(id);
    this.#unknown.delete(id);
    this.#overtake(id);
  }

  /** Forgets all keys of a tenant. Rare, so a walk over everything is cheaper than an index on every entry. */
  forgetTenant(tenantId: string): void {
    for (const [id, known] of this.#known.entries()) if (known.record.tenantId === tenantId) this.#known.delete(id);
    for (const id of this.#reading.keys()) this.#overtake(id);
  }

  apply(notice: EventNotice): void {
    if (notice.subjectType === 'key') this.forget(notice.subjectId);
    else if (notice.subjectType === 'tenant') this.forgetTenant(notice.subjectId);
  }

  reset(): void {
    this.#known.clear();
    this.#unknown.clear();
    for (const id of this.#reading.keys()) this.#overtake(id);
  }

  #overtake(id: string): void {
    const reading = this.#reading.get(id);
    if (reading === undefined) return;
    reading.overtaken = true;
    this.#reading.delete(id);
  }

  async #readAndRemember(id: string, overtaken: () => boolean): Promise<Finding> {
    await this.#enter();
    try {
      const readAt = momentOf(this.#clock);
      const stored = await this.#storage.find(id);
      const facts = stored === null ? null : { ...stored, addresses: addressesOf(stored.record.ipAllowlist) };
      if (!overtaken()) {
        if (facts === null) this.#unknown.set(id, true);
        else this.#known.set(id, facts);
      }
      return { facts, readAt };
    } finally {
      this.#leave();
    }
  }

  async #enter(): Promise<void> {
    if (this.#readsUnderWay >= this.#coldReadsMax) {
      if (this.#waiting.length >= COLD_READS_WAITING_MAX)
        throw new PantheonError('overloaded', { retryAfterSeconds: 1 });
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      return;
    }
    this.#readsUnderWay += 1;
  }

  /** A place that is left passes to the next in line. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#readsUnderWay -= 1;
    else next();
  }
}

function addressesOf(ipAllowlist: readonly string[]): AddressRanges | null {
  return ipAllowlist.length === 0 ? null : AddressRanges.of(ipAllowlist);
}
