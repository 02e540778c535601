/**
 * Makes an HTTP server that bounds each connection: its requests are handled one after the other, in order; only a few may
 * wait; and the connection is closed when its client does not read the answers. Without this Node starts all requests of a
 * packet at once, up to a thousand, and keeps all of their answers until the client reads them. Which connections are open at
 * the same time is decided in `connection-places.ts`; the bytes of answers and bodies are bounded in `memory-bounds.ts`.
 */
import {
  createServer,
  IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import { clientBucket } from 'pantheon-auth';
import {
  CHUNK_BYTES,
  CHUNKS_BYTES_MAX,
  HEADER_BYTES_MAX,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_TIMEOUT_MS,
  READ_BYTES_MAX,
  REQUEST_TIMEOUT_MS,
  TIMEOUTS_CHECK_MS,
  UNANSWERED_MAX,
  UNCOUNTED_CHUNKS_MAX,
  UNREAD_TIMEOUT_MS,
  WAITING_BYTES_MAX,
} from '../settings/server-bounds.ts';
import { BoundedBytes, type BytesCount, type BytesOwner } from './bounded-bytes.ts';
import { ConnectionPlaces, type Place } from './connection-places.ts';

export interface BoundedServerOptions {
  readonly connectionsMax: number;
  /** Answers an `Expect` that is not `100-continue`. Default: Node's own answer. */
  readonly onExpectation?: RequestListener;
}

/** The server, not listening yet. */
export function createBoundedServer(handle: RequestListener, options: BoundedServerOptions): Server {
  const connections = new Connections(options.connectionsMax);
  const server = createServer(nodeOptions(connections), (request, response) =>
    connections.admit(request, response, handle),
  );
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT_MS;
  // No limit on the number of headers, because Node silently drops those beyond it, and a second credential could be
  // among them. Their total size is limited instead.
  server.maxHeadersCount = 0;
  // Node refuses a connection beyond this before `connections` learns of it. One more, so that it learns of each.
  server.maxConnections = options.connectionsMax + 1;
  const { onExpectation } = options;
  if (onExpectation !== undefined)
    server.on('checkExpectation', (request, response) => connections.admit(request, response, onExpectation));
  server.on('connection', (socket: Socket) => connections.add(socket));
  let sweep: NodeJS.Timeout | undefined;
  server.on('listening', () => {
    sweep = setInterval(() => connections.sweep(), TIMEOUTS_CHECK_MS).unref();
  });
  server.on('close', () => clearInterval(sweep));
  return server;
}

function nodeOptions(connections: Connections): ServerOptions<typeof IncomingMessage> {
  return {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUTS_CHECK_MS,
    // Node would refuse without a body; `single-headers.ts` refuses with a problem document.
    requireHostHeader: false,
    IncomingMessage: messageOf(connections),
  };
}

/**
 * A request beyond the bound is presented to Node as an upgrade that nobody handles: Node then stops reading the packet
 * and closes the connection. That is the only way to stop it within a packet: after `socket.destroy()` it still reads
 * the rest, and makes a request and an error object of every one in it.
 */
function messageOf(connections: Connections): typeof IncomingMessage {
  return class extends IncomingMessage {
    // Decided once, because answers to earlier requests may be sent between two reads of `upgrade`.
    readonly #isBeyond = connections.isFull(this.socket);
    #isUpgrade: boolean | null | undefined;
    #chunks = 0;

    // The constructor of IncomingMessage assigns `upgrade` before the private fields of this class exist.
    get upgrade(): boolean | null {
      return #isBeyond in this ? this.#isBeyond || (this.#isUpgrade ?? null) : null;
    }

    set upgrade(isUpgrade: boolean | null) {
      if (#isUpgrade in this) this.#isUpgrade = isUpgrade;
    }

    // Node calls it with each chunk of the body.
    override push(chunk: Buffer | null): boolean {
      if (chunk !== null) {
        this.#chunks += 1;
        if (this.#chunks > UNCOUNTED_CHUNKS_MAX) connections.countChunk(this);
      }
      return super.push(chunk);
    }
  };
}

interface WaitingRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly handle: RequestListener;
  /** Stops counting the bytes of this request. */
  readonly release: () => void;
}

interface Connection {
  readonly place: Place;
  /** The request that was started last. Null: none was. */
  current: IncomingMessage | null;
  /**
   * Requests that were read and whose answers have not been handed to the system completely. Each with the count of the
   * chunks of its body; null: there are few.
   */
  readonly unanswered: Map<IncomingMessage, BytesCount | null>;
  /** A request of this connection was started and not answered yet, or will be started in the next turn. */
  isBusy: boolean;
  /** The turn of the event loop in which a request was last started. */
  lastStartedInTurn: number;
  readonly waiting: WaitingRequest[];
  /** The socket has a timeout because it holds unsent bytes. */
  isTimed: boolean;
}

class Connections {
  readonly #connections = new Map<Socket, Connection>();
  // A request that waits has not been authenticated, whoever sent it.
  readonly #waiting = new BoundedBytes({ bytesMax: WAITING_BYTES_MAX, unauthenticatedBytesMax: WAITING_BYTES_MAX });
  // Counted for the address of the connection, because the service may read chunks before it authenticates the caller.
  readonly #chunks = new BoundedBytes({ bytesMax: CHUNKS_BYTES_MAX, unauthenticatedBytesMax: CHUNKS_BYTES_MAX });
  readonly #places: ConnectionPlaces;
  #turn = 0;
  #isTurnCounted = false;

  constructor(connectionsMax: number) {
    this.#places = new ConnectionPlaces(connectionsMax);
  }

  /** Closes the connection instead if there is no place for it. */
  add(socket: Socket): void {
    const place = this.#places.take({
      address: socket.remoteAddress ?? '',
      close: () => this.#close(socket),
      isStalled: () => isStalled(socket, this.#connections.get(socket)),
    });
    if (place === null) {
      socket.destroy();
      return;
    }
    this.#connections.set(socket, {
      place,
      current: null,
      unanswered: new Map(),
      isBusy: false,
      lastStartedInTurn: -1,
      waiting: [],
      isTimed: false,
    });
    socket.once('close', () => this.#forget(socket));
  }

  isFull(socket: Socket): boolean {
    return (this.#connections.get(socket)?.unanswered.size ?? 0) >= UNANSWERED_MAX;
  }

  /**
   * Starts the request at once if no earlier request of its connection is unanswered; otherwise the request waits. Even if
   * none is unanswered, a connection starts at most one request per turn of the event loop, because Node can send an answer
   * while it still reads further requests of the same packet.
   */
  admit(request: IncomingMessage, response: ServerResponse, handle: RequestListener): void {
    const { socket } = request;
    const connection = this.#connections.get(socket);
    // The connection was closed while its packet was being read.
    if (connection === undefined) return;
    connection.unanswered.set(request, null);
    connection.place.becomes('at_work');
    response.on('close', () => this.#answered(request, connection));
    if (!connection.isBusy && connection.lastStartedInTurn !== this.#currentTurn()) {
      connection.lastStartedInTurn = this.#turn;
      connection.isBusy = true;
      connection.isTimed = false;
      connection.current = request;
      handle(request, response);
      return;
    }
    const { release } = this.#waiting.add(ownerOf(socket), bytesOf(request), () => this.#close(socket));
    connection.waiting.push({ request, response, handle, release });
    if (!connection.isBusy) this.#startNext(socket, connection);
  }

  /** Counts a chunk of a body until its request is answered. */
  countChunk(request: IncomingMessage): void {
    const { socket } = request;
    const unanswered = this.#connections.get(socket)?.unanswered;
    const before = unanswered?.get(request);
    if (unanswered === undefined || before === undefined) return;
    const count = before ?? this.#chunks.add(ownerOf(socket), 0, () => this.#close(socket));
    unanswered.set(request, count);
    count.grow(CHUNK_BYTES);
  }

  #currentTurn(): number {
    if (!this.#isTurnCounted)
      setImmediate(() => {
        this.#turn += 1;
        this.#isTurnCounted = false;
      });
    this.#isTurnCounted = true;
    return this.#turn;
  }

  #answered(request: IncomingMessage, connection: Connection): void {
    connection.unanswered.get(request)?.release();
    connection.unanswered.delete(request);
    connection.isBusy = false;
    if (connection.waiting.length > 0) this.#startNext(request.socket, connection);
    else if (connection.unanswered.size === 0) connection.place.becomes('idle');
  }

  /** Starts it in a later turn of the event loop, so that requests of other connections are handled in between. */
  #startNext(socket: Socket, connection: Connection): void {
    connection.isBusy = true;
    setImmediate(() => {
      const next = connection.waiting.shift();
      if (next === undefined) return;
      next.release();
      // Removes the timeout of the previous answer. Node removes it only when no further answer waits, and handling this
      // request may take longer than the timeout.
      if (connection.isTimed) socket.setTimeout(0);
      connection.isTimed = false;
      connection.current = next.request;
      next.handle(next.request, next.response);
    });
  }

  #close(socket: Socket): void {
    this.#forget(socket);
    socket.destroy();
  }

  #forget(socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    connection.place.leave();
    for (const { release } of connection.waiting) release();
    connection.waiting.length = 0;
    for (const chunks of connection.unanswered.values()) chunks?.release();
    this.#connections.delete(socket);
  }

  /**
   * Finds the connections that wait for their client, and sets a timeout on every socket with unsent bytes. Node restarts
   * the timeout whenever bytes are sent, and closes the socket when it has passed. It is not set with each answer, because
   * nearly all answers are sent at once.
   */
  sweep(): void {
    for (const [socket, connection] of this.#connections) {
      if (connection.unanswered.size > 0)
        connection.place.becomes(isStalled(socket, connection) ? 'stalled' : 'at_work');
      if (connection.isTimed || socket.writableLength === 0) continue;
      connection.isTimed = true;
      socket.setTimeout(UNREAD_TIMEOUT_MS);
    }
  }
}

/** What is counted before the caller is authenticated is counted for its address. */
function ownerOf(socket: Socket): BytesOwner {
  return { name: clientBucket(socket.remoteAddress ?? ''), isAuthenticated: false };
}

/** Whether the client has to send more of the body, or to read more of the answer. */
function isStalled(socket: Socket, connection: Connection | undefined): boolean {
  return socket.writableLength > 0 || connection?.current?.complete === false;
}

/** The most that a waiting request can hold: its headers, and what Node reads of a body at once. */
function bytesOf({ headers }: IncomingMessage): number {
  const hasBody = headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
  return HEADER_BYTES_MAX + (hasBody ? READ_BYTES_MAX : 0);
}
