/**
 * The one connection on which this node follows the log: it asks for the head there, listens there, and holds its place
 * among the nodes there. It is apart from the pool, so that no load delays it, and it is opened again whenever it ends.
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

/** The head is asked for ten times a second and answered in a millisecond; after this another connection is tried. */
const HEAD_TIMEOUT_MS = 500;

export interface PostgresSessionOptions {
  readonly client: ClientConfig;
  readonly onStatement: ConnectionOptions['onStatement'];
  readonly settings: SessionSettings;
  /** Told of each new connection, before anyone uses it. */
  readonly onConnected: (connection: PostgresConnection) => Promise<void> | void;
}

interface Session {
  readonly client: Client;
  readonly connection: PostgresConnection;
}

export class PostgresSession {
  readonly #options: PostgresSessionOptions;
  /** The one that counts, open or being opened. What was given up before it is nobody's. */
  #session: Promise<Session> | null = null;
  readonly #openings = new WeakMap<PostgresConnection, Promise<Session>>();
  /** The connection has one user at a time; whoever comes meanwhile waits for the end of this. */
  #turn: Promise<void> = Promise.resolve();
  #endTurn: () => void = () => {};
  #onNotify: () => void = () => {};
  #isClosed = false;
  #isStarting = true;

  constructor(options: PostgresSessionOptions) {
    this.#options = options;
  }

  /** From here on what would have stopped the start is an outage: it may pass. */
  started(): void {
    this.#isStarting = false;
  }

  /** Calls back when something may have been committed. */
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
      // Not when its end is heard of: whoever is next must not get it.
      if (this.#openings.get(connection) === this.#session) this.#session = null;
    }
    this.#endTurn();
  }

  /** Ends this connection and opens another: statements wait for it to say which server counts. */
  reopen(): void {
    const session = this.#session;
    this.#session = null;
    session?.then(
      ({ connection }) => connection.destroy(),
      () => {},
    );
    this.#opened().catch(() => {
      // Whoever asks for the head meets the same error, and tries again.
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
      // It never opened, or ended by itself.
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
    // The error that matters is the one of the statement under way; this one says the same.
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
      // One that was given up meanwhile must not say which server counts.
      if (!isWanted()) throw unavailable('The connection was given up while it was opened.');
      await this.#options.onConnected(connection);
      return { client, connection };
    } catch (error) {
      destroyClient(client);
      throw this.#isStarting ? toOpenError(error) : toOutage(error);
    }
  }
}

/** The server lets go of our place among the nodes at once. One that does not answer is not waited for. */
async function endGracefully(client: Client): Promise<void> {
  const cutOff = setTimeout(() => destroyClient(client), HEAD_TIMEOUT_MS);
  try {
    await client.end();
  } finally {
    clearTimeout(cutOff);
  }
}
