/**
 * The keys that a node has in memory: the facts of those that exist and the ids of those that do not. It holds the input of
 * decisions, never a result (I5), and the events of the log invalidate it. In what order keys are read that are not in it
 * is `cold-reads.ts`.
 */
import { LRUCache } from 'lru-cache';
import { AddressRanges } from '../domain/address.ts';
import type { KeyFacts } from '../domain/verification.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice } from '../events/ledger.ts';
import { type Clock, type Moment, momentOf, SECOND_MS } from '../foundation/clock.ts';
import type { PantheonError } from '../foundation/errors.ts';
import { memoryOf } from '../foundation/memory-size.ts';
import { TenantCache } from '../foundation/tenant-cache.ts';
import { ColdReads, type ReadQueueKey } from './cold-reads.ts';
import type { DamagedKey, KeySource, StoredKey, VersionSecret } from './stored-key.ts';

/** Facts, and the secrets that are matched against what is presented. One object per key; replaced as a whole, never changed. */
export interface CachedKey extends KeyFacts {
  readonly secrets: readonly VersionSecret[];
}

/** What a read of the store brought. `facts` is null for an id that does not exist, and for a damaged key. */
export interface LoadedKey {
  readonly facts: CachedKey | null;
  readonly damaged: DamagedKey | null;
  /** The moment before the store was asked. */
  readonly readAt: Moment;
}

/** A key takes about 2 kB, one with all that input allows 80 kB: it is the bytes that bound the memory. */
export const KNOWN_KEYS_MAX = 100_000;
/** Where nobody says otherwise: 50 000 keys of the usual size. */
export const KNOWN_KEYS_BYTES_MAX: number = 100 * 1_024 * 1_024;
/** Unknown ids cost a few bytes; a flood of invented ones pushes out only its own kind. */
export const UNKNOWN_IDS_MAX = 50_000;
/** Damaged keys are few. When there are more, some are read again. */
const DAMAGED_KEYS_MAX = 1_000;
/** A damaged key is read again after this: who puts its row right behind our back makes no event. */
export const DAMAGED_CACHED_MS: number = 10 * SECOND_MS;

/** A damaged key, and until when (monotonic) it is cached. */
interface CachedDamage {
  readonly damaged: DamagedKey;
  readonly untilMs: number;
}

export class VerificationCache implements Follower {
  readonly #source: KeySource;
  readonly #clock: Clock;
  readonly #onDamaged: (error: PantheonError) => void;
  readonly #known: TenantCache<CachedKey>;
  readonly #unknown = new LRUCache<string, true>({ max: UNKNOWN_IDS_MAX });
  readonly #damaged = new LRUCache<string, CachedDamage>({ max: DAMAGED_KEYS_MAX });
  readonly #reads: ColdReads<LoadedKey>;

  constructor(deps: {
    readonly source: KeySource;
    readonly clock: Clock;
    readonly knownKeysMax?: number | undefined;
    readonly knownKeysBytesMax?: number;
    /** Reads under way at once: a flood of unknown ids must leave the store to others (I9). */
    readonly coldReadsMax: number;
    /** Told of a damaged key when it is first read, and again after an event named it. */
    readonly onDamaged?: (error: PantheonError) => void;
  }) {
    this.#source = deps.source;
    this.#clock = deps.clock;
    this.#onDamaged = deps.onDamaged ?? (() => {});
    this.#known = new TenantCache({
      bytesMax: deps.knownKeysBytesMax ?? KNOWN_KEYS_BYTES_MAX,
      entriesMax: deps.knownKeysMax ?? KNOWN_KEYS_MAX,
      sizeOf: bytesOf,
    });
    this.#reads = new ColdReads({
      readsMax: deps.coldReadsMax,
      load: (id, isInvalidated) => this.#load(id, isInvalidated),
    });
  }

  /** What is accounted for the keys in memory. */
  get knownKeysBytes(): number {
    return this.#known.bytes;
  }

  /** What is in memory for this id. Null: that no key has it. Undefined: nothing, or that the key is damaged. */
  peek(id: string): CachedKey | null | undefined {
    return this.#known.get(id) ?? (this.#unknown.has(id) ? null : undefined);
  }

  /** The damaged key in memory; null: it is not known to be damaged. */
  peekDamaged(id: string): DamagedKey | null {
    const cached = this.#damaged.get(id);
    return cached !== undefined && this.#clock.monotonicMs() < cached.untilMs ? cached.damaged : null;
  }

  /**
   * Reads it from the store, together with everyone who asks for the same key before an event invalidates the read.
   *
   * @throws PantheonError `overloaded`, `store_unavailable`.
   */
  read(id: string, queueKey: ReadQueueKey): Promise<LoadedKey> {
    return this.#reads.read(id, queueKey);
  }

  /** Removes one key. The result of a read under way is not cached, and nobody who comes later joins that read. */
  invalidate(id: string): void {
    this.#known.delete(id);
    this.#unknown.delete(id);
    this.#damaged.delete(id);
    this.#reads.invalidate(id);
  }

  /** Removes all keys of a tenant. */
  invalidateTenant(tenantId: string): void {
    this.#known.deleteTenant(tenantId);
    this.#damaged.clear();
    this.#reads.invalidateAll();
  }

  apply(notice: EventNotice): void {
    if (notice.subjectType === 'key') this.invalidate(notice.subjectId);
    else if (notice.subjectType === 'tenant') this.invalidateTenant(notice.subjectId);
  }

  reset(): void {
    this.#known.clear();
    this.#unknown.clear();
    this.#damaged.clear();
    this.#reads.invalidateAll();
  }

  async #load(id: string, isInvalidated: () => boolean): Promise<LoadedKey> {
    const readAt = momentOf(this.#clock);
    const stored = await this.#source.findToVerify(id);
    if (stored !== null && 'error' in stored) {
      return { facts: null, damaged: this.#cacheDamaged(id, stored, isInvalidated()), readAt };
    }
    const facts = stored === null ? null : toCached(stored);
    if (!isInvalidated()) {
      this.#damaged.delete(id);
      if (facts === null) this.#unknown.set(id, true);
      else this.#known.set(id, facts.record.tenantId, facts);
    }
    return { facts, damaged: null, readAt };
  }

  /** Answers it with the error that was told before, so that it is told once however often it is read. */
  #cacheDamaged(id: string, { error, secrets }: DamagedKey, isInvalidated: boolean): DamagedKey {
    const told = this.#damaged.get(id)?.damaged.error;
    if (told === undefined) this.#onDamaged(error);
    const damaged = { error: told ?? error, secrets };
    if (!isInvalidated) this.#damaged.set(id, { damaged, untilMs: this.#clock.monotonicMs() + DAMAGED_CACHED_MS });
    return damaged;
  }
}

/** What is shown to whoever manages the key is left out. */
function toCached({ record, tenant, secrets }: StoredKey): CachedKey {
  const { description: _description, metadata: _metadata, ...decisive } = record;
  return { record: decisive, tenant, secrets: compact(secrets), addresses: addressesOf(record.ipAllowlist) };
}

/** Small buffers of Node are parts of a larger one, which each of them keeps in memory: these are parts of one of their own. */
function compact(secrets: readonly VersionSecret[]): readonly VersionSecret[] {
  const parts = secrets.flatMap(({ keyHash, signing }) => (signing === null ? [keyHash] : [keyHash, signing.secret]));
  const all = Buffer.allocUnsafeSlow(parts.reduce((bytes, { length }) => bytes + length, 0));
  let at = 0;
  const moved = (part: Buffer): Buffer => {
    part.copy(all, at);
    at += part.length;
    return all.subarray(at - part.length, at);
  };
  return secrets.map(({ version, keyHash, signing }) => ({
    version,
    keyHash: moved(keyHash),
    signing: signing === null ? null : { kid: signing.kid, secret: moved(signing.secret) },
  }));
}

/** The two lists of an allowlist, and each range in them: they are outside of the heap. */
const ADDRESSES_BYTES = 1_024;
const RANGE_BYTES = 256;

function bytesOf({ record, tenant, secrets, addresses }: CachedKey): number {
  const ranges = addresses === null ? 0 : ADDRESSES_BYTES + record.ipAllowlist.length * RANGE_BYTES;
  return memoryOf(record) + memoryOf(tenant) + memoryOf(secrets) + ranges;
}

function addressesOf(ipAllowlist: readonly string[]): AddressRanges | null {
  return ipAllowlist.length === 0 ? null : AddressRanges.of(ipAllowlist);
}
