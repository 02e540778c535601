/**
 * One connection to PostgreSQL: how long an answer may take, that what is acknowledged is durable, and which server it
 * leads to. A connection that kept us waiting is never used again: its answer may still come, to another question.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CompiledQuery, DatabaseConnection, QueryResult } from 'kysely';
import { type ClientBase, type QueryResult as PgResult, type QueryConfig, types } from 'pg';
import { PantheonError } from '../../foundation/errors.ts';
import { LOG_CHANNEL } from '../dialect.ts';
import { breaksConnection, toCommitError, toOpenError, toPantheonError, unavailable } from './postgres-errors.ts';

/** A read that takes longer is of no use to a verification, whose caller has given up. */
export const READ_TIMEOUT_MS = 1_000;
/** A statement of a transaction may wait for the lock of another, which itself is bounded. */
export const WRITE_TIMEOUT_MS = 5_000;
/** Older versions are no longer supported by their makers. */
const SERVER_VERSION_MIN = 140_000;
/** Statements prepared on each connection, so that the server plans them once. Our texts are far fewer. */
const STATEMENTS_PREPARED_MAX = 256;

const INT8_OID = 20;

/** 64-bit integers as numbers. One that a number cannot hold was never written by us. */
function parseInteger(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  throw new PantheonError('key_quarantined', { detail: 'A number in the database is out of range.' });
}

/** How the driver reads values of ours. */
export const TYPES: NonNullable<QueryConfig['types']> = {
  getTypeParser: (oid, format) => {
    if (oid === INT8_OID) return parseInteger;
    return types.getTypeParser(oid, format);
  },
};

/** Names for texts, shared by all connections; each prepares a name when it first meets it. */
const preparedNames = new Map<string, string>();

function preparedName(text: string): string | undefined {
  const known = preparedNames.get(text);
  if (known !== undefined || preparedNames.size >= STATEMENTS_PREPARED_MAX) return known;
  const name = `pantheon_auth_${preparedNames.size}`;
  preparedNames.set(text, name);
  return name;
}

/** Any text of a user id, a name or metadata can be stored in this encoding only, and be compared as it is elsewhere. */
const ENCODING = 'UTF8';

interface Greeting {
  readonly channel: string;
  readonly server_version: number;
  readonly server_encoding: string;
  readonly database: string;
  readonly is_in_recovery: boolean;
  readonly synchronous_commit: string;
  readonly is_fsynced: boolean;
  readonly server: string;
}

/** Settings of a session, by their names in PostgreSQL. */
export type SessionSettings = Readonly<Record<string, string>>;

/**
 * The first question of every connection. Settings are part of it and not of the connection's start: a pooler such as
 * PgBouncer refuses parameters there that it does not know.
 */
function greetingOf(settings: SessionSettings): string {
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
  const set = Object.entries(settings).map(([name, value]) => `set_config(${text(name)}, ${text(value)}, false)`);
  // Two statements: what the second one says is after the settings of the first.
  return set.length === 0 ? HANDSHAKE_SQL : `select ${set.join(', ')};${HANDSHAKE_SQL}`;
}

/**
 * Asked once of every connection. A commit that a crash of the server may lose must not be acknowledged (I13), whatever
 * the role's settings say; the start time of the server tells one server from another, and one before a restart from
 * the one after it.
 */
const HANDSHAKE_SQL = `
  select
    current_setting('server_version_num')::int as server_version,
    current_setting('server_encoding') as server_encoding,
    current_database() as database,
    pg_is_in_recovery() as is_in_recovery,
    current_setting('fsync')::bool as is_fsynced,
    set_config('synchronous_commit',
      case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end, false
    ) as synchronous_commit,
    set_config('default_transaction_isolation', 'read committed', false) as isolation,
    extract(epoch from pg_postmaster_start_time())::text as server,
    ${LOG_CHANNEL} as channel`;

type Answer = Pick<PgResult, 'rows' | 'rowCount' | 'command'>;

export interface ConnectionOptions {
  /** Sees the text of every statement, never its values. */
  readonly onStatement: ((sql: string) => void) | null;
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly settings: SessionSettings;
  /** Throws when the answers of this server no longer count. */
  readonly assertServer: (server: string) => void;
}

export class PostgresConnection implements DatabaseConnection {
  readonly #client: ClientBase;
  readonly #options: ConnectionOptions;
  #inTransaction = false;
  #isBroken = false;
  #server = '';
  #isFsynced = true;
  #channel = '';

  constructor(client: ClientBase, options: ConnectionOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** Which server answers, and since when it runs. */
  get server(): string {
    return this.#server;
  }

  /** Whether what the server acknowledges outlives its machine. */
  get isFsynced(): boolean {
    return this.#isFsynced;
  }

  /** Not to be used again. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** @throws PantheonError `store_unusable` for a server that cannot keep our promises, `store_read_only` for a standby. */
  async handshake(): Promise<void> {
    try {
      const text = greetingOf(this.#options.settings);
      // Of several statements the driver gives an answer each.
      const answers = [await this.#bounded({ text }, this.#options.readTimeoutMs)].flat();
      const greeting = answers.at(-1)?.rows[0] as Greeting;
      if (greeting.server_version < SERVER_VERSION_MIN)
        throw new PantheonError('store_unusable', { detail: 'PostgreSQL 14 or newer is needed.' });
      if (greeting.server_encoding !== ENCODING) throw wrongEncoding(greeting);
      if (greeting.is_in_recovery)
        throw new PantheonError('store_read_only', { detail: 'This server is a standby; the primary is needed.' });
      this.#server = greeting.server;
      this.#isFsynced = greeting.is_fsynced;
      this.#channel = greeting.channel;
    } catch (error) {
      this.#isBroken = true;
      throw toOpenError(error);
    }
  }

  async begin(): Promise<void> {
    await this.#execute({ text: 'begin' }, this.#options.writeTimeoutMs);
    this.#inTransaction = true;
  }

  async commit(): Promise<void> {
    this.#options.assertServer(this.#server);
    this.#inTransaction = false;
    let command: string;
    // A standby that should have it and was not waited for: "committed locally, but might not have been replicated".
    const warnings: string[] = [];
    const onNotice = (notice: {
      readonly severity: string | undefined;
      readonly message: string | undefined;
    }): void => {
      if (notice.severity === 'WARNING') warnings.push(String(notice.message));
    };
    this.#client.on('notice', onNotice);
    try {
      ({ command } = await this.#bounded({ text: 'commit' }, this.#options.writeTimeoutMs));
      // A server that was replaced meanwhile may have committed what the new one will never have.
      this.#options.assertServer(this.#server);
      if (warnings[0] !== undefined) throw new Error(warnings[0]);
    } catch (error) {
      this.#isBroken = true;
      throw toCommitError(error);
    } finally {
      this.#client.off('notice', onNotice);
    }
    // What the server answers to the commit of a transaction that had failed.
    if (command !== 'COMMIT') throw unavailable('The transaction was rolled back.');
  }

  /** Hears of every commit from here on. */
  async listen(): Promise<void> {
    await this.#execute({ text: `listen ${this.#channel}` }, this.#options.readTimeoutMs);
  }

  /** The process of the server that answers. Behind a pooler that shares sessions it is now this one, now another. */
  async backend(): Promise<number> {
    const { rows } = await this.#execute({ text: 'select pg_backend_pid() as pid' }, this.#options.readTimeoutMs);
    return (rows[0] as { readonly pid: number }).pid;
  }

  /** Ends it without telling the server: one that does not answer would never take the message. */
  destroy(): void {
    this.#isBroken = true;
    destroyClient(this.#client);
  }

  /** Never throws: whoever rolls back has an error to tell already, and a broken connection rolls back by ending. */
  async rollback(): Promise<void> {
    this.#inTransaction = false;
    if (this.#isBroken) return;
    try {
      await this.#bounded({ text: 'rollback' }, this.#options.writeTimeoutMs);
    } catch {
      this.#isBroken = true;
    }
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const name = preparedName(query.sql);
    const config: QueryConfig = { text: query.sql, values: [...query.parameters], ...(name !== undefined && { name }) };
    const timeoutMs = this.#inTransaction ? this.#options.writeTimeoutMs : this.#options.readTimeoutMs;
    const { rows, rowCount, command } = await this.#execute(config, timeoutMs);
    // An answer that was under way while the server was replaced is the answer of the one before.
    if (!this.#inTransaction) this.#options.assertServer(this.#server);
    const affected = command === 'SELECT' ? {} : { numAffectedRows: BigInt(rowCount ?? 0) };
    return { rows: rows as R[], ...affected };
  }

  streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('Streaming would hold a connection for as long as its reader likes; read in pages instead.');
  }

  async #execute(query: QueryConfig, timeoutMs: number): Promise<Answer> {
    try {
      return await this.#bounded(query, timeoutMs);
    } catch (error) {
      throw toPantheonError(error);
    }
  }

  /** @throws PantheonError `store_unavailable` when no answer came in time: the connection is then broken. */
  async #bounded(query: QueryConfig, timeoutMs: number): Promise<Answer> {
    this.#options.onStatement?.(query.text);
    let timer: NodeJS.Timeout | undefined;
    let isLate = false;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(async () => {
        // When the event loop stood still the answer may lie in the socket: it is read before this goes on.
        await nextTurn();
        await nextTurn();
        isLate = true;
        reject(unavailable(`The database did not answer within ${timeoutMs} ms.`));
      }, timeoutMs);
    });
    try {
      return await Promise.race([this.#client.query(query), late]);
    } catch (error) {
      if (isLate || breaksConnection(error)) this.#isBroken = true;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The encoding of a database is decided when it is made. */
function wrongEncoding({ server_encoding, database }: Greeting): PantheonError {
  const what = `The database "${database}" is encoded in ${server_encoding}, and ${ENCODING} is needed.`;
  const remedy = `Make another one (create database … encoding '${ENCODING}' template template0) and name that one.`;
  return new PantheonError('store_unusable', { field: 'database.url', detail: `${what} ${remedy}` });
}

/** Ends a connection at once, whatever its server does. Its own `end` waits for an answer. */
export function destroyClient(client: ClientBase): void {
  const { stream } = (client as unknown as { readonly connection: { readonly stream: { destroy(): void } } })
    .connection;
  stream.destroy();
}
