/**
 * A cache shared by all tenants, bounded in bytes, which evicts the least recently used entry first. When it is full, a
 * tenant that takes more than half of it evicts its own entries, so that it does not displace those of other tenants.
 */
import { LRUCache } from 'lru-cache';

/** The overhead of an entry: two maps, a list, and its key. */
export const CACHE_ENTRY_BYTES = 300;
/** The largest share of one entry. A larger value is not cached and is read each time. */
const ENTRY_SHARE_MAX = 1 / 16;
/**
 * How many of the least recently used entries are searched for one of the same tenant, before its oldest entry is
 * evicted.
 */
const SEARCHED_MAX = 16;

export interface TenantCacheOptions<V> {
  readonly bytesMax: number;
  readonly entriesMax: number;
  /** The bytes of a value, without the overhead of the cache. */
  readonly sizeOf: (value: V) => number;
}

interface Entry<V> {
  readonly value: V;
  readonly tenantId: string;
  readonly bytes: number;
}

/** The entries of one tenant: their keys in insertion order. */
interface Share {
  readonly keys: Set<string>;
  bytes: number;
}

export class TenantCache<V> {
  readonly #options: TenantCacheOptions<V>;
  readonly #entries: LRUCache<string, Entry<V>>;
  readonly #shares = new Map<string, Share>();

  constructor(options: TenantCacheOptions<V>) {
    this.#options = options;
    this.#entries = new LRUCache({
      max: options.entriesMax,
      maxSize: Math.max(1, options.bytesMax),
      sizeCalculation: ({ bytes }) => bytes,
      dispose: (entry, key) => this.#forget(key, entry),
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The estimated bytes of all entries. */
  get bytes(): number {
    return this.#entries.calculatedSize;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key)?.value;
  }

  set(key: string, tenantId: string, value: V): void {
    this.delete(key);
    const { bytesMax, sizeOf } = this.#options;
    const bytes = sizeOf(value) + CACHE_ENTRY_BYTES;
    if (bytes > bytesMax * ENTRY_SHARE_MAX) return;
    while (this.#isFullFor(bytes) && this.#isOverHalf(tenantId, bytes)) this.#evictOwn(tenantId);
    this.#entries.set(key, { value, tenantId, bytes });
    const share = this.#shares.get(tenantId) ?? { keys: new Set<string>(), bytes: 0 };
    share.keys.add(key);
    share.bytes += bytes;
    this.#shares.set(tenantId, share);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  deleteTenant(tenantId: string): void {
    for (const key of this.#shares.get(tenantId)?.keys ?? []) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  #isFullFor(bytes: number): boolean {
    const { bytesMax, entriesMax } = this.#options;
    return this.bytes + bytes > bytesMax || this.size >= entriesMax;
  }

  #isOverHalf(tenantId: string, bytes: number): boolean {
    const share = this.#shares.get(tenantId);
    if (share === undefined) return false;
    const { bytesMax, entriesMax } = this.#options;
    return share.bytes + bytes > bytesMax / 2 || share.keys.size + 1 > entriesMax / 2;
  }

  /** Evicts an entry of this tenant that is among its least recently used. */
  #evictOwn(tenantId: string): void {
    let searched = 0;
    for (const key of this.#entries.rkeys()) {
      if (this.#entries.peek(key)?.tenantId === tenantId) return void this.#entries.delete(key);
      searched += 1;
      if (searched === SEARCHED_MAX) break;
    }
    const [oldest] = this.#shares.get(tenantId)?.keys ?? [];
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  #forget(key: string, { tenantId, bytes }: Entry<V>): void {
    const share = this.#shares.get(tenantId);
    if (share === undefined) return;
    share.keys.delete(key);
    share.bytes -= bytes;
    if (share.keys.size === 0) this.#shares.delete(tenantId);
  }
}
