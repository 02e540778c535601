/**
 * The connections that statements share. All of them lead to one server, the one that this node follows the log of:
 * after a failover none that leads to the old server is used again, so that nothing stale is read from it (I4).
 */
import { type ClientBase, type ClientConfig, Pool, type PoolClient } from 'pg';
import { PantheonError } from '../../foundation/errors.ts';
import { type ConnectionOptions, PostgresConnection } from './postgres-connection.ts';
import { toOpenError, toOutage, unavailable } from './postgres-errors.ts';

/** Statements that may wait for a connection. Beyond it, waiting would be longer than callers do. */
export const WAITING_MAX = 1_000;
/** How long a statement waits for a connection, and a connection for its server. */
export const CONNECT_TIMEOUT_MS = 1_000;
/** An idle connection is closed after this, so that a quiet night leaves few open. */
const IDLE_TIMEOUT_MS = 60_000;

export interface PostgresPoolOptions {
  readonly client: ClientConfig;
  /** Connections at most. */
  readonly max: number;
  readonly connection: Omit<ConnectionOptions, 'assertServer'>;
  /** Told when a new connection leads to another server than the log is followed on. */
  readonly onOtherServer: () => void;
  /** Told what the operator should know of the server. */
  readonly onWarning: (warning: string) => void;
}

export class PostgresPool {
  readonly #pool: Pool;
  readonly #options: PostgresPoolOptions;
  readonly #connections = new WeakMap<object, PostgresConnection>();
  readonly #clients = new WeakMap<PostgresConnection, PoolClient>();
  /** Null: any. */
  #server: string | null = null;
  #isClosed = false;
  #isStarting = true;

  constructor(options: PostgresPoolOptions) {
    this.#options = options;
    this.#pool = new Pool({
      ...options.client,
      max: options.max,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: IDLE_TIMEOUT_MS,
      onConnect: (client) => this.#handshake(client),
    });
    // An idle connection that ends is no error of anybody: the pool drops it, and the next statement opens another.
    this.#pool.on('error', () => {});
  }

  /** From here on what would have stopped the start is an outage: it may pass. */
  started(): void {
    this.#isStarting = false;
  }

  /** From here on only connections to this server are used. */
  followServer(server: string): void {
    this.#server = server;
  }

  /** @throws PantheonError `overloaded`, `store_unavailable`, `shutting_down`. */
  async acquire(): Promise<PostgresConnection> {
    if (this.#isClosed) throw new PantheonError('shutting_down', { detail: 'The database is closed.' });
    if (this.#pool.waitingCount >= WAITING_MAX) throw new PantheonError('overloaded', { retryAfterSeconds: 1 });
    for (;;) {
      const client = await this.#connect();
      const connection = this.#connections.get(client);
      if (connection !== undefined && this.#isCurrent(connection)) {
        this.#clients.set(connection, client);
        return connection;
      }
      client.release(true);
    }
  }

  release(connection: PostgresConnection): void {
    const client = this.#clients.get(connection);
    this.#clients.delete(connection);
    client?.release(connection.isBroken || !this.#isCurrent(connection));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#pool.end();
  }

  #isCurrent(connection: PostgresConnection): boolean {
    return this.#server === null || connection.server === this.#server;
  }

  async #connect(): Promise<PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      throw this.#isStarting ? toOpenError(error) : toOutage(error);
    }
  }

  async #handshake(client: ClientBase): Promise<void> {
    // While a statement has it the pool does not listen, and an error that nobody hears ends the process. The statement
    // under way is told of it, or the next one.
    client.on('error', () => {});
    const connection = new PostgresConnection(client, {
      ...this.#options.connection,
      assertServer: (server) => {
        if (this.#server !== null && server !== this.#server)
          throw unavailable('The database moved to another server.');
      },
    });
    try {
      await connection.handshake();
    } catch (error) {
      // The pool would wait until the server has been told of the end.
      connection.destroy();
      throw error;
    }
    if (!connection.isFsynced)
      this.#options.onWarning('fsync is off in PostgreSQL: a crash of its machine loses what was acknowledged');
    if (!this.#isCurrent(connection)) {
      // Whichever of the two is the newer one: the log must be followed where statements go.
      this.#options.onOtherServer();
      connection.destroy();
      throw unavailable('The database moved to another server.');
    }
    this.#connections.set(client, connection);
  }
}
