/**
 * Bounds the number of connections. At the bound a new connection takes the place of one that the service does no work
 * for, of the sender with the most connections, so that one sender cannot keep others out by opening all of them.
 */
import { clientBucket } from 'pantheon-auth';

/** What the service does for a connection. */
export type ConnectionState =
  /** No request of it was read that is not answered. Also before its first request. */
  | 'idle'
  | 'at_work'
  /** A request was read, and its body does not arrive or its answer is not read. */
  | 'stalled';

/** A connection, as far as its place depends on it. */
export interface PlacedConnection {
  /** The address of the client. */
  readonly address: string;
  readonly close: () => void;
  /** Whether a connection that was reported as stalled still is. */
  readonly isStalled: () => boolean;
}

/** The place of one open connection, which is idle at first. */
export interface Place {
  readonly becomes: (state: ConnectionState) => void;
  /** Called when the connection is closed. Idempotent. */
  readonly leave: () => void;
}

interface Placed {
  readonly connection: PlacedConnection;
  readonly sender: Sender;
  hasPlace: boolean;
}

/** The connections of one sender: an IPv4 address, or an IPv6 /64. */
interface Sender {
  readonly name: string;
  connections: number;
  /** Those that are idle, in the order in which they became idle. */
  readonly idle: Set<Placed>;
  readonly stalled: Set<Placed>;
  /** The number in `#closable` under which it is found. Null: it has no connection that may be closed. */
  foundUnder: number | null;
}

export class ConnectionPlaces {
  readonly #connectionsMax: number;
  readonly #senders = new Map<string, Sender>();
  /**
   * The senders with a connection that may be closed, by the number of their connections. Of 10,000 connections at most
   * 141 of these numbers are different, so the largest is found fast.
   */
  readonly #closable = new Map<number, Set<Sender>>();
  #connections = 0;

  constructor(connectionsMax: number) {
    this.#connectionsMax = connectionsMax;
  }

  /** Gives a new connection a place; at the bound closes another one for it. Null: no other one may be closed. */
  take(connection: PlacedConnection): Place | null {
    const name = clientBucket(connection.address);
    if (this.#connections >= this.#connectionsMax && !this.#makeRoomFor(name)) return null;
    const sender = this.#senders.get(name) ?? newSender(name);
    this.#senders.set(name, sender);
    sender.connections += 1;
    this.#connections += 1;
    const placed: Placed = { connection, sender, hasPlace: true };
    this.#becomes(placed, 'idle');
    return { becomes: (state) => this.#becomes(placed, state), leave: () => this.#leave(placed) };
  }

  /**
   * Closes one connection: the longest idle one of the sender with the most connections, or, if none of that sender is
   * idle, the longest stalled one. A sender loses a connection to another one only if it has more.
   */
  #makeRoomFor(name: string): boolean {
    for (;;) {
      const own = this.#senders.get(name);
      const largest = this.#largestClosable();
      const sender = largest !== null && largest.connections > (own?.connections ?? 0) ? largest : own;
      const placed = sender && firstClosable(sender);
      if (placed === undefined) return false;
      if (placed.sender.idle.has(placed) || placed.connection.isStalled()) {
        this.#leave(placed);
        placed.connection.close();
        return true;
      }
      this.#becomes(placed, 'at_work');
    }
  }

  #largestClosable(): Sender | null {
    let most = 0;
    for (const connections of this.#closable.keys()) if (connections > most) most = connections;
    const [sender = null] = this.#closable.get(most) ?? [];
    return sender;
  }

  #becomes(placed: Placed, state: ConnectionState): void {
    if (!placed.hasPlace) return;
    const { idle, stalled } = placed.sender;
    if (state !== 'idle') idle.delete(placed);
    else idle.add(placed);
    if (state !== 'stalled') stalled.delete(placed);
    else stalled.add(placed);
    this.#findAgain(placed.sender);
  }

  #leave(placed: Placed): void {
    if (!placed.hasPlace) return;
    this.#becomes(placed, 'at_work');
    placed.hasPlace = false;
    const { sender } = placed;
    sender.connections -= 1;
    this.#connections -= 1;
    if (sender.connections === 0) this.#senders.delete(sender.name);
    this.#findAgain(sender);
  }

  /** Updates `#closable`. Usually nothing has to be done. */
  #findAgain(sender: Sender): void {
    const { connections, foundUnder } = sender;
    // By size: the first of a set is slow to find when many before it were deleted.
    const under = sender.idle.size + sender.stalled.size === 0 ? null : connections;
    if (under === foundUnder) return;
    const before = foundUnder === null ? undefined : this.#closable.get(foundUnder);
    before?.delete(sender);
    if (foundUnder !== null && before?.size === 0) this.#closable.delete(foundUnder);
    sender.foundUnder = under;
    if (under === null) return;
    const now = this.#closable.get(under) ?? new Set();
    now.add(sender);
    this.#closable.set(under, now);
  }
}

function newSender(name: string): Sender {
  return { name, connections: 0, idle: new Set(), stalled: new Set(), foundUnder: null };
}

function firstClosable({ idle, stalled }: Sender): Placed | undefined {
  const [first] = idle.size > 0 ? idle : stalled;
  return first;
}
