/**
 * The connection pool. All connections must lead to the server whose log this node follows: after a failover no
 * connection to the old server is used again, so that no stale data are read (I4).
 */
import { type ClientBase, type ClientConfig, Pool, type PoolClient } from 'pg';
import { PantheonError } from '../../foundation/errors.ts';
import { type ConnectionOptions, PostgresConnection } from './postgres-connection.ts';
import { toOpenError, toOutage, unavailable } from './postgres-errors.ts';

/** The most statements that wait for a connection. */
export const WAITING_MAX = 1_000;
/** How long a statement waits for a connection, and a connection for the server. */
export const CONNECT_TIMEOUT_MS = 1_000;
/** An idle connection is closed after this time. */
const IDLE_TIMEOUT_MS = 60_000;

export interface PostgresPoolOptions {
  readonly client: ClientConfig;
  /** The most connections. */
  readonly max: number;
  readonly connection: Omit<ConnectionOptions, 'assertServer'>;
  /** Called when a new connection leads to a different server than the session that follows the log. */
  readonly onOtherServer: () => void;
  /** Called with warnings for the operator. */
  readonly onWarning: (warning: string) => void;
}

export class PostgresPool {
  readonly #pool: Pool;
  readonly #options: PostgresPoolOptions;
  readonly #connections = new WeakMap<object, PostgresConnection>();
  readonly #clients = new WeakMap<PostgresConnection, PoolClient>();
  /** The server to use; null: any. */
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
    // The end of an idle connection is no error: the pool drops it, and the next statement opens another.
    this.#pool.on('error', () => {});
  }

  /** After the start, errors that would have stopped it are treated as outages. */
  started(): void {
    this.#isStarting = false;
  }

  /** Uses only connections to this server from here on. */
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
    // A checked-out connection needs an error listener, or an error would end the process. The statement in progress or
    // the next one also gets the error.
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
      // Otherwise the pool would wait for the server.
      connection.destroy();
      throw error;
    }
    if (!connection.isFsynced)
      this.#options.onWarning('fsync is off in PostgreSQL: a crash of its machine loses what was acknowledged');
    if (!this.#isCurrent(connection)) {
      // Whichever server is newer, the log must be followed on the one that statements use.
      this.#options.onOtherServer();
      connection.destroy();
      throw unavailable('The database moved to another server.');
    }
    this.#connections.set(client, connection);
  }
}
