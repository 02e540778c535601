/**
 * Bounds the bytes that all connections together keep in memory at one moment: bodies that are arriving, answers that
 * are not read, requests that wait. When the bound is exceeded, the owner of the most bytes loses its oldest connection,
 * so that one owner with many connections cannot take the room of the others. Owners without a key have a part of the
 * room at most, and give way before a tenant does.
 */

/** Whom bytes are counted for. */
export interface BytesOwner {
  /** A tenant, or the addresses that count as one sender. */
  readonly name: string;
  readonly isAuthenticated: boolean;
}

/** The count of what one connection keeps. */
export interface BytesCount {
  /** Counts further bytes of the same connection. Does nothing after the count has ended. */
  readonly grow: (bytes: number) => void;
  /** Ends the count. Idempotent. */
  readonly release: () => void;
}

/** Bytes that a connection keeps in memory. */
interface HeldBytes {
  readonly group: OwnerGroup;
  readonly owner: string;
  bytes: number;
  /** Closes the connection. */
  readonly close: () => void;
}

/** All that is counted for one owner, in the order in which it was added. */
interface Owned {
  bytes: number;
  readonly entries: Set<HeldBytes>;
}

/** All owners with a key, or all without one. */
interface OwnerGroup {
  bytes: number;
  readonly byOwner: Map<string, Owned>;
}

export interface BytesBounds {
  readonly bytesMax: number;
  /** Of all owners without a key together. */
  readonly unauthenticatedBytesMax: number;
}

export class BoundedBytes {
  readonly #bounds: BytesBounds;
  readonly #authenticated: OwnerGroup = { bytes: 0, byOwner: new Map() };
  readonly #unauthenticated: OwnerGroup = { bytes: 0, byOwner: new Map() };

  constructor(bounds: BytesBounds) {
    this.#bounds = bounds;
  }

  /** Of all connections. */
  get bytes(): number {
    return this.#authenticated.bytes + this.#unauthenticated.bytes;
  }

  /**
   * Counts `bytes` until the count is released. When a bound is exceeded, now or when a count grows, the oldest entry of
   * the largest owner is no longer counted and its `close` is called. That may be this entry.
   */
  add({ name, isAuthenticated }: BytesOwner, bytes: number, close: () => void): BytesCount {
    const group = isAuthenticated ? this.#authenticated : this.#unauthenticated;
    const held: HeldBytes = { group, owner: name, bytes: 0, close };
    const owned = group.byOwner.get(name) ?? { bytes: 0, entries: new Set() };
    owned.entries.add(held);
    group.byOwner.set(name, owned);
    this.#grow(held, bytes);
    return { grow: (more) => this.#grow(held, more), release: () => remove(held) };
  }

  #grow(held: HeldBytes, bytes: number): void {
    const owned = held.group.byOwner.get(held.owner);
    if (owned?.entries.has(held) !== true) return;
    held.bytes += bytes;
    owned.bytes += bytes;
    held.group.bytes += bytes;
    const { bytesMax, unauthenticatedBytesMax } = this.#bounds;
    while (this.#unauthenticated.bytes > unauthenticatedBytesMax) closeOne(this.#unauthenticated);
    while (this.bytes > bytesMax)
      closeOne(this.#unauthenticated.bytes > 0 ? this.#unauthenticated : this.#authenticated);
  }
}

/** Searches all owners of the group; this happens only when a connection is closed. */
function closeOne({ byOwner }: OwnerGroup): void {
  let largest: Owned | null = null;
  for (const owned of byOwner.values()) if (largest === null || owned.bytes > largest.bytes) largest = owned;
  const [oldest] = largest?.entries ?? [];
  if (oldest === undefined) return;
  remove(oldest);
  oldest.close();
}

/** Idempotent. */
function remove(held: HeldBytes): void {
  const { group, owner, bytes } = held;
  const owned = group.byOwner.get(owner);
  if (owned?.entries.delete(held) !== true) return;
  owned.bytes -= bytes;
  if (owned.entries.size === 0) group.byOwner.delete(owner);
  group.bytes -= bytes;
}
