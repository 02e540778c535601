/**
 * The scaled-out database: any number of nodes on one PostgreSQL. Statements share a pool; the log is followed on a
 * session apart from it, so that no load delays a revocation.
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
  /** `postgres://user:password@host:port/database?sslmode=verify-full`. What it says of TLS is passed to the driver. */
  readonly url: string;
  /**
   * The schema that the tables lie in; `migrate` makes it when it is missing. Default: the first of the role's search
   * path, `public` as a rule. Products in different schemas of one database do not see each other.
   */
  readonly schema?: string;
  /** Connections of this node at most, besides the one on which it follows the log. Default {@link POOL_MAX}. */
  readonly poolMax?: number;
  /** TLS where the URL cannot say it: certificates in memory, say. */
  readonly ssl?: TlsOptions | boolean;
  /** Sees the text of every statement before it runs, never a value. For tests. */
  readonly onStatement?: (sql: string) => void;
}

/** PostgreSQL, not connected yet. */
export interface PostgresDatabase extends DatabaseSource {
  /**
   * Makes the tables, or brings them up to date, under a lock: several may try at once. Answers what was run.
   *
   * @throws PantheonError `schema_too_new`, `store_unusable`, `store_unavailable`, `store_read_only`.
   */
  migrate(): Promise<readonly string[]>;
}

/** Two for each core of a small server; a hundred nodes fit under the limits of a large one. */
export const POOL_MAX = 16;
/** One for each kind of work: cold reads, writes, writes that end access, everything else. */
const POOL_MIN = 4;
/** Of the connections, at least one: only writes that revoke, suspend or retire use it, so nothing else keeps them waiting. */
const PROTECTIVE_SHARE = 0.125;
/** Of the pool, so that a flood of unknown keys leaves the rest to others (I9). */
const COLD_READS_SHARE = 0.25;
/** Of the pool, so that writes that wait for each other leave the rest to reads. */
const WRITES_SHARE = 0.5;
/** Longer than this side waits: what the server breaks off it might tell as done. */
const STATEMENT_TIMEOUT_MS: number = WRITE_TIMEOUT_MS + 1_000;
/** A transaction of a node that hangs keeps its locks no longer than this: less than others wait for one. */
const IDLE_IN_TRANSACTION_MS = 2_000;
/** A migration of large tables takes what it takes; this only ends one that hangs. */
const MIGRATION_TIMEOUTS = { readTimeoutMs: 10_000, writeTimeoutMs: 3_600_000 } as const;
/**
 * On the session that holds a node's place: the server misses a node whose machine vanished within half a minute. Its own
 * default is two hours, in which a successor would admit half of every limit.
 */
const VANISHED_PEER: SessionSettings = {
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '25000',
};
/** The log's head is held for milliseconds; who waits longer for a lock gives up. */
const LOCK_TIMEOUT_MS = 3_000;

/**
 * PostgreSQL 14 or newer, for `createPantheonAuth({ database: postgres({ url }) })`. Needs the package `pg`. Several
 * nodes also need `pantheon-auth/redis`, but for the time in which one replaces another. The tables are made by `migrate`, not by opening it.
 *
 * Connections must lead to the primary, and each keeps its session: a pooler that shares sessions by transaction or
 * statement is refused (`store_unusable`), PgBouncer with `pool_mode = session` works.
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

/** Of every session that runs statements of callers. */
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
  const protectiveMax = Math.max(1, Math.floor(poolMax * PROTECTIVE_SHARE));
  const sharedMax = poolMax - protectiveMax;
  const pool = openPool(sharedMax);
  const protectivePool = openPool(protectiveMax);
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
    ordinary: { db, atOnceMax: Math.floor(sharedMax * WRITES_SHARE) },
    protective: { db: protective, atOnceMax: protectiveMax },
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
      writer,
      dialect: postgresql,
      log: new SqlLogReader(following, postgresql, { onNotify: (listener) => session.onNotify(listener) }),
      coldReadsMax: Math.max(1, Math.floor(sharedMax * COLD_READS_SHARE)),
      keysPerTenantMax: context.keysPerTenantMax,
      nodes,
      close,
    });
  } catch (error) {
    await close();
    throw toFirstError(error);
  }
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
    // The driver reads the files of `sslrootcert` and its like when it is made.
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

/** For people, without user and password. */
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
