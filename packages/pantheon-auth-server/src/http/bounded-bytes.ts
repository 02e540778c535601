/**
 * Bounds the bytes that all connections together keep in memory at one moment: bodies that are arriving, answers that
 * are not read, requests that wait. When the bound is exceeded, the owner of the most bytes loses its oldest connection,
 * so that one owner with many connections cannot take the room of the others.
 */

/** Bytes that a connection keeps in memory. */
interface HeldBytes {
  /** The tenant or the address that they are counted for. */
  readonly owner: string;
  readonly bytes: number;
  /** Closes the connection. */
  readonly close: () => void;
}

/** All that is counted for one owner, in the order in which it was added. */
interface Owned {
  bytes: number;
  readonly entries: Set<HeldBytes>;
}

export class BoundedBytes {
  readonly #bytesMax: number;
  readonly #byOwner = new Map<string, Owned>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Of all connections. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Counts `bytes` until the returned function is called. If the bound is exceeded and this is the oldest entry of the
   * largest owner, stops counting it and calls `close`.
   */
  add(owner: string, bytes: number, close: () => void): () => void {
    const held: HeldBytes = { owner, bytes, close };
    const owned = this.#byOwner.get(owner) ?? { bytes: 0, entries: new Set() };
    owned.bytes += bytes;
    owned.entries.add(held);
    this.#byOwner.set(owner, owned);
    this.#bytes += bytes;
    while (this.#bytes > this.#bytesMax) this.#closeOne();
    return () => this.#remove(held);
  }

  /** Searches all owners; this happens only when a connection is closed. */
  #closeOne(): void {
    let largest: Owned | null = null;
    for (const owned of this.#byOwner.values()) if (largest === null || owned.bytes > largest.bytes) largest = owned;
    const [oldest] = largest?.entries ?? [];
    if (oldest === undefined) return;
    this.#remove(oldest);
    oldest.close();
  }

  /** Idempotent. */
  #remove(held: HeldBytes): void {
    const owned = this.#byOwner.get(held.owner);
    if (owned?.entries.delete(held) !== true) return;
    owned.bytes -= held.bytes;
    if (owned.entries.size === 0) this.#byOwner.delete(held.owner);
    this.#bytes -= held.bytes;
  }
}
