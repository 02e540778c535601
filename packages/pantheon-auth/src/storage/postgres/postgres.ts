/**
 * PostgreSQL as database for any number of nodes. Statements use a pool; the log is followed on a separate session, so
 * that load does not delay revocations.
 */
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { Kysely } from 'kysely';
import { Client, type ClientConfig } from 'pg';
import { PantheonError } from '../../foundation/errors.ts';
import { assemble, type Database, type DatabaseContext, type DatabaseSource } from '../database.ts';
import { postgresql } from '../dialect.ts';
import { assertSchema, migrate } from '../migrations/schema.ts';
import { SqlLogReader } from '../rows/sql-log-reader.ts';
import type { Tables } from '../tables.ts';
import { WriteQueue } from '../write-queue.ts';
import { READ_TIMEOUT_MS, type SessionSettings, TYPES, WRITE_TIMEOUT_MS } from './postgres-connection.ts';
import { PostgresDialect } from './postgres-dialect.ts';
import { toFirstError } from './postgres-errors.ts';
import { PostgresNodes } from './postgres-nodes.ts';
import { PostgresPool } from './postgres-pool.ts';
import { PostgresSession } from './postgres-session.ts';
import { assertOwnSessions } from './postgres-sharing.ts';
import { assertPostgresUrl, assertSchemaName, nameOfPostgresUrl } from './postgres-url.ts';

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database?sslmode=verify-full`. TLS parameters are passed to the driver. */
  readonly url: string;
  /**
   * The schema of the tables; `migrate` creates it if it is missing. Default: the first of the role's search path,
   * usually `public`. Installations in different schemas of one database are independent.
   */
  readonly schema?: string;
  /**
   * The most connections of this node, in addition to the one on which it follows the log. Default: {@link POOL_MAX}.
   */
  readonly poolMax?: number;
  /** TLS options that the URL cannot express, such as certificates in memory. */
  readonly ssl?: TlsOptions | boolean;
  /** Called with the SQL of every statement, without values. For tests. */
  readonly onStatement?: (sql: string) => void;
}

/** PostgreSQL, not connected yet. */
export interface PostgresDatabase extends DatabaseSource {
  /**
   * Creates or updates the tables, under a lock, so that several nodes may call it at once. Returns the names of the
   * executed migrations.
   *
   * @throws PantheonError `schema_too_new`, `store_unusable`, `store_unavailable`, `store_read_only`.
   */
  migrate(): Promise<readonly string[]>;
}

/** Two for each core of a small server; a large server has room for a hundred nodes. */
export const POOL_MAX = 16;
/** One for each kind of work: cold reads, writes, writes that end access, other statements. */
const POOL_MIN = 4;
/** The share of connections, at least one, that only revoking, suspending and retiring may use. */
const PROTECTIVE_SHARE = 0.125;
/**
 * The shares of the other connections. Each kind of work has its own queue and uses no more than its share, so that no
 * kind waits for another: cold reads, reads that are shown, reads of ordinary commands, and writes, which wait for each
 * other at the head of the log. The rest is for reads of the node itself.
 */
const PARTS = { coldReads: 0.25, shown: 0.25, commands: 0.15, writes: 0.3 } as const;
/** Longer than the timeout of this side, so that this side gives up first. */
const STATEMENT_TIMEOUT_MS: number = WRITE_TIMEOUT_MS + 1_000;
/** A hanging node keeps the locks of a transaction no longer than this, which is less than others wait for them. */
const IDLE_IN_TRANSACTION_MS = 2_000;
/** Migrations of large tables may take long; this only ends a hanging one. */
const MIGRATION_TIMEOUTS = { readTimeoutMs: 10_000, writeTimeoutMs: 3_600_000 } as const;
/**
 * Keepalive settings of the session that holds the registration: the server notices within half a minute that a machine
 * has disappeared. The default is two hours, during which a replacement would admit only half of every limit.
 */
const VANISHED_PEER: SessionSettings = {
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '25000',
};
/** The head row is locked for milliseconds, so a longer wait for a lock is given up. */
const LOCK_TIMEOUT_MS = 3_000;

/**
 * PostgreSQL 14 or newer, for `createPantheonAuth({ database: postgres({ url }) })`. Needs the package `pg`. Several
 * nodes also need `pantheon-auth/redis`, except while one replaces another. Call `migrate` to create the tables;
 * opening the database does not.
 *
 * Connections must lead to the primary and keep their session: a pooler that shares sessions by transaction or
 * statement is refused (`store_unusable`); PgBouncer with `pool_mode = session` works.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 * import { postgres } from 'pantheon-auth/postgres';
 * import { redisLimits } from 'pantheon-auth/redis';
 *
 * const database = postgres({ url: 'postgres://pantheon@db.internal/pantheon?sslmode=verify-full' });
 * await database.migrate();
 * const auth = await createPantheonAuth({
 *   database,
 *   limits: redisLimits({ url: 'rediss://cache.internal:6379' }),
 *   masterKeyFile: '/run/secrets/master.key',
 *   issuer: 'https://auth.example.com',
 * });
 * ```
 */
export function postgres(options: PostgresOptions): PostgresDatabase {
  const { poolMax = POOL_MAX } = options;
  if (!Number.isInteger(poolMax) || poolMax < POOL_MIN)
    throw new PantheonError('invalid_setting', { field: 'poolMax', detail: `A whole number from ${POOL_MIN}.` });
  assertPostgresUrl(options.url);
  if (options.schema !== undefined) assertSchemaName(options.schema);
  return {
    open: (context) => open(options, poolMax, context),
    migrate: () => migrateOnce(options),
  };
}

/** Settings of every session of the pool. */
const STATEMENT_BOUNDS: SessionSettings = {
  statement_timeout: String(STATEMENT_TIMEOUT_MS),
  lock_timeout: String(LOCK_TIMEOUT_MS),
  idle_in_transaction_session_timeout: String(IDLE_IN_TRANSACTION_MS),
};

async function open(options: PostgresOptions, poolMax: number, context: DatabaseContext): Promise<Database> {
  const onStatement = options.onStatement ?? null;
  const warnOnce = once(context.onWarning);
  const client = clientConfig(options);
  const schema = schemaSettings(options);
  const openPool = (max: number): PostgresPool =>
    new PostgresPool({
      client,
      max,
      connection: {
        onStatement,
        settings: { ...schema, ...STATEMENT_BOUNDS },
        readTimeoutMs: READ_TIMEOUT_MS,
        writeTimeoutMs: WRITE_TIMEOUT_MS,
      },
      onOtherServer: () => session.reopen(),
      onWarning: warnOnce,
    });
  const connections = connectionsOf(poolMax);
  const pool = openPool(connections.shared);
  const protectivePool = openPool(connections.protective);
  const session: PostgresSession = new PostgresSession({
    client,
    onStatement,
    settings: { ...schema, ...VANISHED_PEER },
    onConnected: (connection) => {
      for (const one of [pool, protectivePool]) one.followServer(connection.server);
      return nodes.rejoin(connection);
    },
  });
  const following = new Kysely<Tables>({ dialect: new PostgresDialect(session) });
  const nodes = new PostgresNodes(following, context);
  const db = new Kysely<Tables>({ dialect: new PostgresDialect(pool) });
  const protective = new Kysely<Tables>({ dialect: new PostgresDialect(protectivePool) });
  const lanes = {
    ordinary: { db, atOnceMax: connections.writes },
    protective: { db: protective, atOnceMax: connections.protective },
  };
  const writer = new WriteQueue(lanes, context.clock);
  const close = async (): Promise<void> => {
    nodes.close();
    await writer.close();
    await session.close();
    await Promise.all([pool.close(), protectivePool.close()]);
  };
  try {
    await assertOwnSessions(session, pool);
    await assertSchema({ db: following, dialect: postgresql, name: nameOf(options) });
    for (const source of [pool, protectivePool, session]) source.started();
    return assemble({
      read: db,
      scan: db,
      protectiveRead: protective,
      writer,
      dialect: postgresql,
      log: new SqlLogReader(following, postgresql, { onNotify: (listener) => session.onNotify(listener) }),
      coldReadsMax: connections.coldReads,
      readsAtOnce: connections.readsAtOnce,
      keysPerTenantMax: context.keysPerTenantMax,
      nodes,
      close,
    });
  } catch (error) {
    await close();
    throw toFirstError(error);
  }
}

/** How many connections each kind of work may use. */
function connectionsOf(poolMax: number) {
  const protective = Math.max(1, Math.floor(poolMax * PROTECTIVE_SHARE));
  const shared = poolMax - protective;
  const partOf = (part: number): number => Math.max(1, Math.floor(shared * part));
  return {
    protective,
    shared,
    writes: partOf(PARTS.writes),
    coldReads: partOf(PARTS.coldReads),
    readsAtOnce: { shown: partOf(PARTS.shown), commands: { ordinary: partOf(PARTS.commands), protective } },
  };
}

async function migrateOnce(options: PostgresOptions): Promise<readonly string[]> {
  const pool = new PostgresPool({
    client: clientConfig(options),
    max: 2,
    connection: { onStatement: options.onStatement ?? null, settings: schemaSettings(options), ...MIGRATION_TIMEOUTS },
    onOtherServer: () => {},
    onWarning: () => {},
  });
  try {
    await assertOwnSessions(pool, pool);
    const db = new Kysely<Tables>({ dialect: new PostgresDialect(pool) });
    return await migrate({ db, dialect: postgresql, name: nameOf(options), schema: options.schema ?? null });
  } catch (error) {
    throw toFirstError(error);
  } finally {
    await pool.close();
  }
}

/** @throws PantheonError `invalid_setting` when a file that the address names cannot be read. */
function clientConfig({ url, ssl }: PostgresOptions): ClientConfig {
  const config: ClientConfig = {
    connectionString: url,
    application_name: 'pantheon-auth',
    keepAlive: true,
    types: TYPES,
    ...(ssl !== undefined && { ssl }),
  };
  try {
    // The driver reads the files of `sslrootcert` and similar parameters in its constructor.
    new Client(config);
  } catch (cause) {
    throw new PantheonError('invalid_setting', { field: 'url', detail: 'A file that it names cannot be read.', cause });
  }
  return config;
}

/** Quoted: a search path is a list of names. */
function schemaSettings({ schema }: PostgresOptions): SessionSettings {
  return schema === undefined ? {} : { search_path: `"${schema}"` };
}

/** The name of the database for messages, without user and password. */
function nameOf({ url, schema }: PostgresOptions): string {
  return schema === undefined ? nameOfPostgresUrl(url) : `${nameOfPostgresUrl(url)} (schema ${schema})`;
}

function once(tell: (warning: string) => void): (warning: string) => void {
  const told = new Set<string>();
  return (warning) => {
    if (told.has(warning)) return;
    told.add(warning);
    tell(warning);
  };
}
