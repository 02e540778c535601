/**
 * What a node remembers of keys: the facts of those that exist and the ids of those that do not. It holds the input of
 * decisions, never a result (I5), and forgets by the events of the log. In what order keys are read that it does not
 * remember is `cold-reads.ts`.
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
import type { DamagedKey, KeyStorage, StoredKey, VersionSecret } from './key-storage.ts';

/** Facts with what proves them. One object per key; replaced as a whole, never changed. */
export interface KnownKey extends KeyFacts {
  readonly secrets: readonly VersionSecret[];
}

/** What is known, and when it was true. `facts` is null for an id that does not exist, and for a damaged key. */
export interface Finding {
  readonly facts: KnownKey | null;
  readonly damaged: DamagedKey | null;
  /** Null: it was remembered, so it is as old as the last confirmation of the head. */
  readonly readAt: Moment | null;
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
export const DAMAGED_REMEMBERED_MS: number = 10 * SECOND_MS;

/** A damaged key, and until when (monotonic) it is remembered. */
interface RememberedDamage {
  readonly damaged: DamagedKey;
  readonly untilMs: number;
}

export class VerificationCache implements Follower {
  readonly #storage: KeyStorage;
  readonly #clock: Clock;
  readonly #onDamaged: (error: PantheonError) => void;
  readonly #known: TenantCache<KnownKey>;
  readonly #unknown = new LRUCache<string, true>({ max: UNKNOWN_IDS_MAX });
  readonly #damaged = new LRUCache<string, RememberedDamage>({ max: DAMAGED_KEYS_MAX });
  readonly #reads: ColdReads<Finding>;

  constructor(deps: {
    readonly storage: KeyStorage;
    readonly clock: Clock;
    readonly knownKeysMax?: number | undefined;
    readonly knownKeysBytesMax?: number;
    /** Reads under way at once: a flood of unknown ids must leave the store to others (I9). */
    readonly coldReadsMax: number;
    /** Told of a damaged key when it is first read, and again after an event named it. */
    readonly onDamaged?: (error: PantheonError) => void;
  }) {
    this.#storage = deps.storage;
    this.#clock = deps.clock;
    this.#onDamaged = deps.onDamaged ?? (() => {});
    this.#known = new TenantCache({
      bytesMax: deps.knownKeysBytesMax ?? KNOWN_KEYS_BYTES_MAX,
      entriesMax: deps.knownKeysMax ?? KNOWN_KEYS_MAX,
      sizeOf: bytesOf,
    });
    this.#reads = new ColdReads({
      readsMax: deps.coldReadsMax,
      load: (id, isOvertaken) => this.#readAndRemember(id, isOvertaken),
    });
  }

  /** What is accounted for the keys that are remembered. */
  get knownKeysBytes(): number {
    return this.#known.bytes;
  }

  /** What is remembered of this id; undefined: nothing, or that it is damaged. */
  remembered(id: string): KnownKey | null | undefined {
    return this.#known.get(id) ?? (this.#unknown.has(id) ? null : undefined);
  }

  /** What is remembered of a damaged key; null: it is not known to be one. */
  rememberedDamage(id: string): DamagedKey | null {
    const remembered = this.#damaged.get(id);
    return remembered !== undefined && this.#clock.monotonicMs() < remembered.untilMs ? remembered.damaged : null;
  }

  /**
   * Reads it from the store, together with everyone who asks for the same key before an event overtakes the read.
   *
   * @throws PantheonError `overloaded`, `store_unavailable`.
   */
  read(id: string, place: ReadQueueKey): Promise<Finding> {
    return this.#reads.read(id, place);
  }

  /** Forgets one key. A read under way is not remembered, and nobody who comes later joins it. */
  forget(id: string): void {
    this.#known.delete(id);
    this.#unknown.delete(id);
    this.#damaged.delete(id);
    this.#reads.overtake(id);
  }

  /** Forgets all keys of a tenant. */
  forgetTenant(tenantId: string): void {
    this.#known.deleteTenant(tenantId);
    this.#damaged.clear();
    this.#reads.overtakeAll();
  }

  apply(notice: EventNotice): void {
    if (notice.subjectType === 'key') this.forget(notice.subjectId);
    else if (notice.subjectType === 'tenant') this.forgetTenant(notice.subjectId);
  }

  reset(): void {
    this.#known.clear();
    this.#unknown.clear();
    this.#damaged.clear();
    this.#reads.overtakeAll();
  }

  async #readAndRemember(id: string, isOvertaken: () => boolean): Promise<Finding> {
    const readAt = momentOf(this.#clock);
    const stored = await this.#storage.findToVerify(id);
    if (stored !== null && 'error' in stored) {
      return { facts: null, damaged: this.#rememberDamage(id, stored, isOvertaken()), readAt };
    }
    const facts = stored === null ? null : toKnown(stored);
    if (!isOvertaken()) {
      this.#damaged.delete(id);
      if (facts === null) this.#unknown.set(id, true);
      else this.#known.set(id, facts.record.tenantId, facts);
    }
    return { facts, damaged: null, readAt };
  }

  /** Answers it with the error that was told before, so that it is told once however often it is read. */
  #rememberDamage(id: string, { error, secrets }: DamagedKey, isOvertaken: boolean): DamagedKey {
    const told = this.#damaged.get(id)?.damaged.error;
    if (told === undefined) this.#onDamaged(error);
    const damaged = { error: told ?? error, secrets };
    if (!isOvertaken) this.#damaged.set(id, { damaged, untilMs: this.#clock.monotonicMs() + DAMAGED_REMEMBERED_MS });
    return damaged;
  }
}

/** What is shown to whoever manages the key is left out. */
function toKnown({ record, tenant, secrets }: StoredKey): KnownKey {
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

function bytesOf({ record, tenant, secrets, addresses }: KnownKey): number {
  const ranges = addresses === null ? 0 : ADDRESSES_BYTES + record.ipAllowlist.length * RANGE_BYTES;
  return memoryOf(record) + memoryOf(tenant) + memoryOf(secrets) + ranges;
}

function addressesOf(ipAllowlist: readonly string[]): AddressRanges | null {
  return ipAllowlist.length === 0 ? null : AddressRanges.of(ipAllowlist);
}
