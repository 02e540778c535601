/**
 * The cache of keys of a node: facts about existing keys, and ids that do not exist. It holds the input of decisions,
 * never a result (I5), and is invalidated by events of the log. Reads of other keys are queued in `cold-reads.ts`.
 */
import { LRUCache } from 'lru-cache';
import { addressesOf } from '../domain/address.ts';
import type { KeyFacts } from '../domain/verification.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice } from '../events/ledger.ts';
import { type Clock, type Moment, momentOf, SECOND_MS } from '../foundation/clock.ts';
import type { PantheonError } from '../foundation/errors.ts';
import { memoryOf } from '../foundation/memory-size.ts';
import { TenantCache } from '../foundation/tenant-cache.ts';
import { ColdReads, type ReadQueueKey } from './cold-reads.ts';
import type { DamagedKey, KeySource, StoredKey, VersionSecret } from './stored-key.ts';

/** Facts about a key, and its secrets. One immutable object per key, replaced as a whole. */
export interface CachedKey extends KeyFacts {
  readonly secrets: readonly VersionSecret[];
}

/** The result of a read. `facts` is null for an id that does not exist and for a damaged key. */
export interface LoadedKey {
  readonly facts: CachedKey | null;
  readonly damaged: DamagedKey | null;
  /** The moment before the read was sent. */
  readonly readAt: Moment;
}

/** A key takes about 2 kB, the largest 80 kB, so the bound in bytes below usually applies first. */
export const KNOWN_KEYS_MAX = 100_000;
/** The default: 50 000 keys of the usual size. */
export const KNOWN_KEYS_BYTES_MAX: number = 100 * 1_024 * 1_024;
/** Unknown ids take a few bytes. They have their own cache, so a flood of invented ids does not evict keys. */
export const UNKNOWN_IDS_MAX = 50_000;
/** Damaged keys are few. With more than this, some are read again. */
const DAMAGED_KEYS_MAX = 1_000;
/** A damaged key is read again after this time, because a repair of its row in the database makes no event. */
export const DAMAGED_CACHED_MS: number = 10 * SECOND_MS;

/** A damaged key, and the monotonic time until which it is cached. */
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
    /** Concurrent reads, so that a flood of unknown ids leaves capacity of the database to others (I9). */
    readonly coldReadsMax: number;
    /** Called when a damaged key is first read, and again after an event about it. */
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

  /** The estimated bytes of the cached keys. */
  get knownKeysBytes(): number {
    return this.#known.bytes;
  }

  /** The cached facts. Null: no key has this id. Undefined: nothing is cached, or the key is damaged. */
  peek(id: string): CachedKey | null | undefined {
    return this.#known.get(id) ?? (this.#unknown.has(id) ? null : undefined);
  }

  /** The cached damaged key; null: not known to be damaged. */
  peekDamaged(id: string): DamagedKey | null {
    const cached = this.#damaged.get(id);
    return cached !== undefined && this.#clock.monotonicMs() < cached.untilMs ? cached.damaged : null;
  }

  /**
   * Reads a key from the database. Requests for the same key share one read until an event invalidates it.
   *
   * @throws PantheonError `overloaded`, `store_unavailable`.
   */
  read(id: string, queueKey: ReadQueueKey): Promise<LoadedKey> {
    return this.#reads.read(id, queueKey);
  }

  /**
   * Removes a key from the cache. The result of a read in progress is not cached, and later requests do not join it.
   */
  invalidate(id: string): void {
    this.#known.delete(id);
    this.#unknown.delete(id);
    this.#damaged.delete(id);
    this.#reads.invalidate(id);
  }

  /** Removes all keys of a tenant. Damaged keys are cached without their tenant, so all of them are removed. */
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

  /**
   * Caches a damaged key with its first error object, so that the error is logged once however often the key is read.
   */
  #cacheDamaged(id: string, { error, secrets }: DamagedKey, isInvalidated: boolean): DamagedKey {
    const told = this.#damaged.get(id)?.damaged.error;
    if (told === undefined) this.#onDamaged(error);
    const damaged = { error: told ?? error, secrets };
    if (!isInvalidated) this.#damaged.set(id, { damaged, untilMs: this.#clock.monotonicMs() + DAMAGED_CACHED_MS });
    return damaged;
  }
}

/** Without description and metadata, which verification does not need. */
function toCached({ record, tenant, secrets }: StoredKey): CachedKey {
  const { description: _description, metadata: _metadata, ...decisive } = record;
  return { record: decisive, tenant, secrets: compact(secrets), addresses: addressesOf(record.ipAllowlist) };
}

/**
 * Copies the secrets into one own buffer. Small Node buffers are slices of a shared pool, and each would keep the whole
 * pool in memory.
 */
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

/** The memory of an allowlist outside of the heap, and of each range in it. */
const ADDRESSES_BYTES = 1_024;
const RANGE_BYTES = 256;

function bytesOf({ record, tenant, secrets, addresses }: CachedKey): number {
  const ranges = addresses === null ? 0 : ADDRESSES_BYTES + record.ipAllowlist.length * RANGE_BYTES;
  return memoryOf(record) + memoryOf(tenant) + memoryOf(secrets) + ranges;
}
