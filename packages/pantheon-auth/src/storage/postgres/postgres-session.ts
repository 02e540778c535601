/**
 * The connection on which this node follows the log: it reads the head, listens for notifications, and holds the
 * registration of the node. Separate from the pool, so that load does not delay it. Reopened whenever it ends.
 */
import { Client, type ClientConfig } from 'pg';
import { PantheonError } from '../../foundation/errors.ts';
import {
  type ConnectionOptions,
  destroyClient,
  PostgresConnection,
  type SessionSettings,
} from './postgres-connection.ts';
import { toOpenError, toOutage, unavailable } from './postgres-errors.ts';
import { CONNECT_TIMEOUT_MS } from './postgres-pool.ts';

/** The time limit for reading the head, which takes about a millisecond; after it a new connection is opened. */
const HEAD_TIMEOUT_MS = 500;

export interface PostgresSessionOptions {
  readonly client: ClientConfig;
  readonly onStatement: ConnectionOptions['onStatement'];
  readonly settings: SessionSettings;
  /** Called with each new connection before it is used. */
  readonly onConnected: (connection: PostgresConnection) => Promise<void> | void;
}

interface Session {
  readonly client: Client;
  readonly connection: PostgresConnection;
}

export class PostgresSession {
  readonly #options: PostgresSessionOptions;
  /** The current session, open or being opened. */
  #session: Promise<Session> | null = null;
  readonly #openings = new WeakMap<PostgresConnection, Promise<Session>>();
  /** The connection has one user at a time; the next one awaits this. */
  #turn: Promise<void> = Promise.resolve();
  #endTurn: () => void = () => {};
  #onNotify: () => void = () => {};
  #isClosed = false;
  #isStarting = true;

  constructor(options: PostgresSessionOptions) {
    this.#options = options;
  }

  /** After the start, errors that would have stopped it are treated as outages. */
  started(): void {
    this.#isStarting = false;
  }

  /** Registers a listener for commits. */
  onNotify(listener: () => void): void {
    this.#onNotify = listener;
  }

  /** @throws PantheonError `store_unavailable`, `store_read_only`, `store_unusable`, `shutting_down`. */
  async acquire(): Promise<PostgresConnection> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    try {
      const { connection } = await this.#opened();
      this.#endTurn = resolve;
      return connection;
    } catch (error) {
      resolve();
      throw error;
    }
  }

  release(connection: PostgresConnection): void {
    if (connection.isBroken) {
      connection.destroy();
      // Cleared at once and not when the end is reported, so that the next user does not get it.
      if (this.#openings.get(connection) === this.#session) this.#session = null;
    }
    this.#endTurn();
  }

  /** Closes this connection and opens another, which determines the server that statements use. */
  reopen(): void {
    const session = this.#session;
    this.#session = null;
    session?.then(
      ({ connection }) => connection.destroy(),
      () => {},
    );
    this.#opened().catch(() => {
      // The next read of the head gets the same error and tries again.
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const session = this.#session;
    this.#session = null;
    try {
      const { client } = (await session) ?? {};
      if (client !== undefined) await endGracefully(client);
    } catch {
      // It was never open, or has ended.
    }
  }

  #opened(): Promise<Session> {
    if (this.#isClosed)
      return Promise.reject(new PantheonError('shutting_down', { detail: 'The database is closed.' }));
    if (this.#session !== null) return this.#session;
    const client = new Client({ ...this.#options.client, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
    const opening: Promise<Session> = this.#connect(client, () => this.#session === opening);
    this.#session = opening;
    const forget = (): void => {
      if (this.#session === opening) this.#session = null;
    };
    // The statement in progress gets the same error.
    client.on('error', forget);
    client.once('end', forget);
    client.on('notification', () => {
      if (this.#session === opening) this.#onNotify();
    });
    opening.then(({ connection }) => this.#openings.set(connection, opening), forget);
    return opening;
  }

  async #connect(client: Client, isWanted: () => boolean): Promise<Session> {
    try {
      await client.connect();
      const connection = new PostgresConnection(client, {
        onStatement: this.#options.onStatement,
        settings: this.#options.settings,
        readTimeoutMs: HEAD_TIMEOUT_MS,
        writeTimeoutMs: HEAD_TIMEOUT_MS,
        assertServer: () => {},
      });
      await connection.handshake();
      await connection.listen();
      // A connection that was given up must not determine the server.
      if (!isWanted()) throw unavailable('The connection was given up while it was opened.');
      await this.#options.onConnected(connection);
      return { client, connection };
    } catch (error) {
      destroyClient(client);
      throw this.#isStarting ? toOpenError(error) : toOutage(error);
    }
  }
}

/**
 * Closes the session so that the server releases the registration at once. Does not wait if the server does not answer.
 */
async function endGracefully(client: Client): Promise<void> {
  const cutOff = setTimeout(() => destroyClient(client), HEAD_TIMEOUT_MS);
  try {
    await client.end();
  } finally {
    clearTimeout(cutOff);
  }
}
