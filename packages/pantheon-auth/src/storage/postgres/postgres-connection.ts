/**
 * One connection to PostgreSQL, with timeouts, durability settings and the identity of its server. A connection whose
 * answer timed out is never used again, because the late answer could be taken for that of the next statement.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CompiledQuery, DatabaseConnection, QueryResult } from 'kysely';
import { type ClientBase, type QueryResult as PgResult, type QueryConfig, types } from 'pg';
import { PantheonError } from '../../foundation/errors.ts';
import { readsDamagedRows } from '../damaged-integers.ts';
import { LOG_CHANNEL } from '../dialect.ts';
import { breaksConnection, toCommitError, toOpenError, toPantheonError, unavailable } from './postgres-errors.ts';

/** A verification cannot use a read that takes longer. */
export const READ_TIMEOUT_MS = 1_000;
/** A statement of a transaction may wait for a lock of another transaction, whose time is bounded too. */
export const WRITE_TIMEOUT_MS = 5_000;
/** Older versions are no longer supported by PostgreSQL. */
const SERVER_VERSION_MIN = 140_000;
/** The most prepared statements per connection. There are fewer SQL texts. */
const STATEMENTS_PREPARED_MAX = 256;

const INT8_OID = 20;

/** Parses 64-bit integers as numbers. The library never writes larger values. */
function parseInteger(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  throw new PantheonError('key_quarantined', { detail: 'A number in the database is out of range.' });
}

function parseDamagedInteger(text: string): number | bigint {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text);
}

type TypeParsers = NonNullable<QueryConfig['types']>;

/** Type parsers of the driver. */
export const TYPES: TypeParsers = typesWith(parseInteger);
/** For queries whose rows may be damaged. */
const TYPES_OF_DAMAGED_ROWS: TypeParsers = typesWith(parseDamagedInteger);

function typesWith(integer: (text: string) => number | bigint): TypeParsers {
  return { getTypeParser: (oid, format) => (oid === INT8_OID ? integer : types.getTypeParser(oid, format)) };
}

/** Statement names by SQL text, shared by all connections. Each connection prepares a statement on first use. */
const preparedNames = new Map<string, string>();

function preparedName(text: string): string | undefined {
  const known = preparedNames.get(text);
  if (known !== undefined || preparedNames.size >= STATEMENTS_PREPARED_MAX) return known;
  const name = `pantheon_auth_${preparedNames.size}`;
  preparedNames.set(text, name);
  return name;
}

/** Only this encoding can store any text. */
const ENCODING = 'UTF8';

interface ServerFacts {
  readonly channel: string;
  readonly server_version: number;
  readonly server_encoding: string;
  readonly database: string;
  readonly is_in_recovery: boolean;
  readonly synchronous_commit: string;
  readonly is_fsynced: boolean;
  readonly server: string;
}

/** Session settings by their PostgreSQL names. */
export type SessionSettings = Readonly<Record<string, string>>;

/**
 * The first statements of every connection. Settings are set here and not as startup parameters, because poolers such
 * as PgBouncer refuse unknown startup parameters.
 */
function handshakeSqlOf(settings: SessionSettings): string {
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
  const set = Object.entries(settings).map(([name, value]) => `set_config(${text(name)}, ${text(value)}, false)`);
  // Two statements, so that the second one reads the settings made by the first.
  return set.length === 0 ? HANDSHAKE_SQL : `select ${set.join(', ')};${HANDSHAKE_SQL}`;
}

/**
 * Run once on every connection. Turns on `synchronous_commit`, whatever the role's settings are, so that acknowledged
 * commits are durable (I13). Reads the start time of the server, which identifies it and changes with a restart.
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
  /** Throws when this server has been replaced. */
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

  /** The identity of the server, with its start time. */
  get server(): string {
    return this.#server;
  }

  /** Whether acknowledged commits survive a crash of the server's machine. */
  get isFsynced(): boolean {
    return this.#isFsynced;
  }

  /** Whether the connection must not be used again. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** @throws PantheonError `store_unusable` for an unsuitable server, `store_read_only` for a standby. */
  async handshake(): Promise<void> {
    try {
      const text = handshakeSqlOf(this.#options.settings);
      // For several statements the driver returns an array of results.
      const answers = [await this.#bounded({ text }, this.#options.readTimeoutMs)].flat();
      const facts = answers.at(-1)?.rows[0] as ServerFacts;
      if (facts.server_version < SERVER_VERSION_MIN)
        throw new PantheonError('store_unusable', { detail: 'PostgreSQL 14 or newer is needed.' });
      if (facts.server_encoding !== ENCODING) throw wrongEncoding(facts);
      if (facts.is_in_recovery)
        throw new PantheonError('store_read_only', { detail: 'This server is a standby; the primary is needed.' });
      this.#server = facts.server;
      this.#isFsynced = facts.is_fsynced;
      this.#channel = facts.channel;
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
    // Collects the warning of a commit that was not replicated: "committed locally, but might not have been
    // replicated".
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
      // If the server was replaced meanwhile, the new one may not have this commit.
      this.#options.assertServer(this.#server);
      if (warnings[0] !== undefined) throw new Error(warnings[0]);
    } catch (error) {
      this.#isBroken = true;
      throw toCommitError(error);
    } finally {
      this.#client.off('notice', onNotice);
    }
    // The server answers ROLLBACK to the COMMIT of a failed transaction.
    if (command !== 'COMMIT') throw unavailable('The transaction was rolled back.');
  }

  /** Receives notifications of commits from here on. */
  async listen(): Promise<void> {
    await this.#execute({ text: `listen ${this.#channel}` }, this.#options.readTimeoutMs);
  }

  /** The server process of this session. Behind a pooler that shares sessions it changes. */
  async backend(): Promise<number> {
    const { rows } = await this.#execute({ text: 'select pg_backend_pid() as pid' }, this.#options.readTimeoutMs);
    return (rows[0] as { readonly pid: number }).pid;
  }

  /** Closes the connection without notifying the server, which may not answer. */
  destroy(): void {
    this.#isBroken = true;
    destroyClient(this.#client);
  }

  /** Never throws, because the caller already has an error, and closing a broken connection rolls back. */
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
    const config: QueryConfig = {
      text: query.sql,
      values: [...query.parameters],
      ...(name !== undefined && { name }),
      ...(readsDamagedRows(query) && { types: TYPES_OF_DAMAGED_ROWS }),
    };
    const timeoutMs = this.#inTransaction ? this.#options.writeTimeoutMs : this.#options.readTimeoutMs;
    const { rows, rowCount, command } = await this.#execute(config, timeoutMs);
    // The answer may be from a server that was replaced meanwhile.
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
        // If the event loop was blocked, the answer may be in the socket and is read first.
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

/** The encoding of a database cannot be changed after its creation. */
function wrongEncoding({ server_encoding, database }: ServerFacts): PantheonError {
  const what = `The database "${database}" is encoded in ${server_encoding}, and ${ENCODING} is needed.`;
  const remedy = `Make another one (create database … encoding '${ENCODING}' template template0) and name that one.`;
  return new PantheonError('store_unusable', { field: 'database.url', detail: `${what} ${remedy}` });
}

/** Closes a connection at once. The driver's `end` waits for an answer. */
export function destroyClient(client: ClientBase): void {
  const { stream } = (client as unknown as { readonly connection: { readonly stream: { destroy(): void } } })
    .connection;
  stream.destroy();
}
