/**
 * Bounds the bytes that all connections together keep in memory at one moment: bodies that are arriving, answers that
 * are not read, requests that wait. Beyond the bound the holder of the most bytes loses what it has held for longest,
 * so that one sender with many connections cannot take the room of the others.
 */

/** What a connection keeps in memory. */
interface Share {
  readonly holder: string;
  readonly bytes: number;
  /** Closes the connection. */
  readonly close: () => void;
}

export class BytesUnderWay {
  readonly #bytesMax: number;
  /** By holder, in the order in which they were added. */
  readonly #shares = new Map<string, { bytes: number; readonly of: Set<Share> }>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Of all connections. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Counts `bytes` until the function that it returns is called, or until they are the ones to go: then calls `close`. */
  add(holder: string, bytes: number, close: () => void): () => void {
    const share: Share = { holder, bytes, close };
    const held = this.#shares.get(holder) ?? { bytes: 0, of: new Set() };
    held.bytes += bytes;
    held.of.add(share);
    this.#shares.set(holder, held);
    this.#bytes += bytes;
    while (this.#bytes > this.#bytesMax) this.#closeOne();
    return () => this.#remove(share);
  }

  /** The number of holders is looked through only here, where a connection is closed. */
  #closeOne(): void {
    let most: { bytes: number; readonly of: Set<Share> } | null = null;
    for (const held of this.#shares.values()) if (most === null || held.bytes > most.bytes) most = held;
    const [oldest] = most?.of ?? [];
    if (oldest === undefined) return;
    this.#remove(oldest);
    oldest.close();
  }

  /** Idempotent. */
  #remove(share: Share): void {
    const held = this.#shares.get(share.holder);
    if (held?.of.delete(share) !== true) return;
    held.bytes -= share.bytes;
    if (held.of.size === 0) this.#shares.delete(share.holder);
    this.#bytes -= share.bytes;
  }
}
