/**
 * A TCP proxy that stands between a client and its server and misbehaves as told: cuts, refuses, holds, delays, loses
 * notifications, or leads to another server. It knows PostgreSQL's framing and passes any other protocol as bytes.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { FaultLane, reset } from './fault-lane.ts';
import { freePort, LOOPBACK } from './free-port.ts';
import { PostgresNotifications } from './postgres-notifications.ts';

export interface FaultTarget {
  readonly host: string;
  readonly port: number;
}

/** `to-server` are requests, `to-client` are answers. */
export type Direction = 'to-server' | 'to-client' | 'both';

/** One connection through the proxy, as a test may choose it. */
export interface ProxiedConnection {
  /** 0 for the first one ever accepted. */
  readonly index: number;
  /** Since bytes last came in from either side. */
  readonly idleMs: number;
  readonly bytesToServer: number;
  readonly bytesToClient: number;
}

/** One held connection. */
export interface Held {
  readonly connection: ProxiedConnection;
  release(): void;
}

/** A trap for one request. */
export interface HeldAnswer {
  /** Resolves when the request has come: from then on its connection gets no answer. */
  readonly caught: Promise<Held>;
  /** Lets the answer through, or takes the trap away when nothing was caught. */
  release(): void;
}

export interface FaultProxy extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Those open now. */
  readonly connections: readonly ProxiedConnection[];
  /** Since the start. */
  readonly droppedNotifications: number;
  /** The same URL, leading through the proxy. */
  rewrite(url: string): string;
  /** New connections go there. Those that exist stay: `cut` ends them. */
  retarget(target: number | FaultTarget): void;
  /** Resets every connection on both sides; new ones are accepted. */
  cut(): void;
  /** New connections are refused, as by a machine without the server. Those that exist stay. */
  refuse(): void;
  accept(): Promise<void>;
  /** Nothing passes, on all present and future connections; bytes, ends and resets are kept and pass after `release`. */
  hold(direction?: Direction): void;
  /** Ends `hold`. What `holdOne` and `holdNextAnswer` hold stays held. */
  release(): void;
  /** Every piece that comes in from now on arrives this much later, in each direction. */
  delay(ms: number): void;
  /** Holds one connection, both ways: the one idle for longest, the nth of those open, or the first that the predicate accepts. */
  holdOne(which?: 'idle' | number | ((connection: ProxiedConnection) => boolean)): Held;
  /**
   * Waits for the next piece to the server that `matches`, such as a query by its text, sends it on, and holds what the server
   * says to that connection from then on.
   */
  holdNextAnswer(matches: (toServer: Buffer) => boolean): HeldAnswer;
  /** Takes every NotificationResponse out of what PostgreSQL servers say. */
  dropPostgresNotifications(on: boolean): void;
}

/** Starts a proxy on a free port of the loopback address. */
export async function startFaultProxy(target: FaultTarget): Promise<FaultProxy> {
  const proxy = new TcpFaultProxy(await freePort(), target);
  await proxy.accept();
  return proxy;
}

interface Trap {
  readonly matches: (toServer: Buffer) => boolean;
  readonly onCatch: (connection: Connection) => void;
}

class TcpFaultProxy implements FaultProxy {
  readonly host: string = LOOPBACK;
  readonly port: number;
  readonly #open: Set<Connection> = new Set();
  readonly #rules: ProxyRules = {
    held: new Set(),
    delayMs: 0,
    dropsNotifications: false,
    droppedNotifications: 0,
    traps: new Set(),
  };
  #target: FaultTarget;
  #server: Server | null = null;
  #accepted = 0;

  constructor(port: number, target: FaultTarget) {
    this.port = port;
    this.#target = target;
  }

  get connections(): readonly ProxiedConnection[] {
    return [...this.#open].map((connection) => connection.describe());
  }

  get droppedNotifications(): number {
    return this.#rules.droppedNotifications;
  }

  rewrite(url: string): string {
    const changed = new URL(url);
    changed.hostname = this.host;
    changed.port = String(this.port);
    return changed.href;
  }

  retarget(target: number | FaultTarget): void {
    this.#target = typeof target === 'number' ? { host: this.#target.host, port: target } : target;
  }

  cut(): void {
    for (const connection of this.#open) connection.cut();
  }

  refuse(): void {
    // Stops listening at once; the connections that exist are not its concern.
    this.#server?.close();
    this.#server = null;
  }

  async accept(): Promise<void> {
    if (this.#server !== null) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Half open: an end in one direction is passed on and leaves the other as it is.
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#connect(client));
    this.#server = server;
    server.once('error', reject);
    server.listen(this.port, this.host, resolve);
    await promise;
  }

  hold(direction: Direction = 'both'): void {
    for (const held of direction === 'both' ? (['to-server', 'to-client'] as const) : [direction])
      this.#rules.held.add(held);
  }

  release(): void {
    this.#rules.held.clear();
    for (const connection of this.#open) connection.pump();
  }

  delay(ms: number): void {
    this.#rules.delayMs = ms;
  }

  holdOne(which: 'idle' | number | ((connection: ProxiedConnection) => boolean) = 'idle'): Held {
    const open = [...this.#open];
    const chosen =
      typeof which === 'number'
        ? open[which]
        : which === 'idle'
          ? open.toSorted((a, b) => b.describe().idleMs - a.describe().idleMs)[0]
          : open.find((connection) => which(connection.describe()));
    if (chosen === undefined) throw new Error(`none of ${open.length} connections can be held`);
    return chosen.hold('both');
  }

  holdNextAnswer(matches: (toServer: Buffer) => boolean): HeldAnswer {
    const { promise, resolve } = Promise.withResolvers<Held>();
    let held: Held | null = null;
    const trap: Trap = {
      matches,
      onCatch: (connection) => {
        this.#rules.traps.delete(trap);
        held = connection.hold('to-client');
        resolve(held);
      },
    };
    this.#rules.traps.add(trap);
    const release = (): void => {
      this.#rules.traps.delete(trap);
      held?.release();
    };
    return { caught: promise, release };
  }

  dropPostgresNotifications(on: boolean): void {
    this.#rules.dropsNotifications = on;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.refuse();
    this.cut();
    await Promise.all([...this.#open].map((connection) => connection.closed));
  }

  #connect(client: Socket): void {
    const server = connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
    const connection = new Connection(this.#accepted, client, server, this.#rules);
    this.#accepted += 1;
    this.#open.add(connection);
    void connection.closed.then(() => this.#open.delete(connection));
  }
}

/** What holds for all connections of one proxy. */
interface ProxyRules {
  readonly held: Set<Exclude<Direction, 'both'>>;
  delayMs: number;
  dropsNotifications: boolean;
  droppedNotifications: number;
  readonly traps: Set<Trap>;
}

class Connection {
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  readonly #index: number;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #rules: ProxyRules;
  readonly #holds: Set<{ readonly direction: Direction }> = new Set();
  readonly #lanes: readonly FaultLane[];
  #lastMs: number = performance.now();

  constructor(index: number, client: Socket, server: Socket, rules: ProxyRules) {
    this.#index = index;
    this.#client = client;
    this.#server = server;
    this.#rules = rules;
    const notifications = new PostgresNotifications(
      () => rules.dropsNotifications,
      () => {
        rules.droppedNotifications += 1;
      },
    );
    const delayMs = (): number => rules.delayMs;
    const toServer = (bytes: Buffer): Buffer => {
      this.#lastMs = performance.now();
      notifications.toServer(bytes);
      for (const trap of rules.traps) if (trap.matches(bytes)) trap.onCatch(this);
      return bytes;
    };
    const toClient = (bytes: Buffer): Buffer => {
      this.#lastMs = performance.now();
      return notifications.toClient(bytes);
    };
    this.#lanes = [
      new FaultLane(client, server, { held: () => this.#isHeld('to-server'), delayMs, pass: toServer }),
      new FaultLane(server, client, { held: () => this.#isHeld('to-client'), delayMs, pass: toClient }),
    ];
    this.closed = Promise.all([client, server].map(whenClosed)).then(() => undefined);
  }

  describe(): ProxiedConnection {
    return {
      index: this.#index,
      idleMs: performance.now() - this.#lastMs,
      bytesToServer: this.#client.bytesRead,
      bytesToClient: this.#server.bytesRead,
    };
  }

  cut(): void {
    reset(this.#client);
    reset(this.#server);
  }

  hold(direction: Direction): Held {
    const hold = { direction };
    this.#holds.add(hold);
    const release = (): void => {
      this.#holds.delete(hold);
      this.pump();
    };
    return { connection: this.describe(), release };
  }

  pump(): void {
    for (const lane of this.#lanes) lane.pump();
  }

  #isHeld(direction: Exclude<Direction, 'both'>): boolean {
    if (this.#rules.held.has(direction)) return true;
    return [...this.#holds].some((hold) => hold.direction === direction || hold.direction === 'both');
  }
}

function whenClosed(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once('close', () => resolve());
  return promise;
}
