/**
 * What is remembered of many tenants inside a fixed number of bytes: the least recently used goes first. A tenant that
 * takes more than half makes room among its own as soon as there is none left, so that it never empties the cache of
 * the others.
 */
import { LRUCache } from 'lru-cache';

/** An entry in two maps and a list, and its key. */
export const CACHE_ENTRY_BYTES = 300;
/** One entry takes at most this part of the cache: what is larger is read each time. */
const ENTRY_SHARE_MAX = 1 / 16;
/** How far the tail is searched for an entry of the same tenant before its oldest one goes. */
const SEARCHED_MAX = 16;

export interface TenantCacheOptions<V> {
  readonly bytesMax: number;
  readonly entriesMax: number;
  /** The bytes of a value, without its place in the cache. */
  readonly sizeOf: (value: V) => number;
}

interface Entry<V> {
  readonly value: V;
  readonly tenantId: string;
  readonly bytes: number;
}

/** What one tenant has in the cache: keys in the order in which they came. */
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

  /** What is accounted for all entries. */
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

  /** The one that this tenant has used least, or nearly so. */
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
