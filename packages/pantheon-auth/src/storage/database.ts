/** The opened database: an implementation of each storage port, for SQLite or PostgreSQL. */
import type { Kysely } from 'kysely';
import type { IdTagRows } from '../api-keys/id-tag-rows.ts';
import type { KeyRows } from '../api-keys/key-rows.ts';
import type { KeyScheduleRows } from '../api-keys/key-schedule-rows.ts';
import type { NextSecretRows } from '../api-keys/next-secrets.ts';
import type { IdempotencyRows } from '../commands/idempotency-rows.ts';
import type { EventRows } from '../events/event-rows.ts';
import type { Ledger, LogReader } from '../events/ledger.ts';
import type { StoredTime } from '../events/stored-time.ts';
import type { Lane } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import type { JobLeaseRows } from '../jobs/job-lease.ts';
import type { SigningKeyRows, TokenRevocationRows } from '../jwt/signing-key-rows.ts';
import type { DataKeyRows } from '../kms/key-encryption.ts';
import type { LogCursorRows } from '../log-consumers/log-consumer.ts';
import type { QuotaLedger } from '../rate-limit/rate-limiter.ts';
import type { TenantRows } from '../tenants/tenant-rows.ts';
import type { UsageRows } from '../usage/usage-rows.ts';
import type { SqlDialect } from './dialect.ts';
import { SqlDataKeyRows } from './rows/sql-data-key-rows.ts';
import { SqlEventRows } from './rows/sql-event-rows.ts';
import { SqlIdTagRows } from './rows/sql-id-tag-rows.ts';
import { SqlIdempotencyRows } from './rows/sql-idempotency-rows.ts';
import { SqlJobLeaseRows } from './rows/sql-job-lease-rows.ts';
import { SqlKeyRows } from './rows/sql-key-rows.ts';
import { SqlKeyScheduleRows } from './rows/sql-key-schedule-rows.ts';
import { SqlLogCursorRows } from './rows/sql-log-cursor-rows.ts';
import { SqlMeta } from './rows/sql-meta.ts';
import { SqlNextSecretRows } from './rows/sql-next-secret-rows.ts';
import { SqlQuotaLedger } from './rows/sql-quota-ledger.ts';
import { SqlSigningKeyRows, SqlTokenRevocationRows } from './rows/sql-signing-key-rows.ts';
import { SqlStoredTime } from './rows/sql-stored-time.ts';
import { SqlTenantRows } from './rows/sql-tenant-rows.ts';
import { SqlUsageRows } from './rows/sql-usage-rows.ts';
import { SqlLedger } from './sql-ledger.ts';
import type { Tables } from './tables.ts';
import type { WriteQueue } from './write-queue.ts';

export interface Database {
  readonly ledger: Ledger;
  readonly log: LogReader;
  readonly events: EventRows;
  readonly keys: KeyRows;
  readonly keySchedules: KeyScheduleRows;
  readonly nextSecrets: NextSecretRows;
  readonly tenants: TenantRows;
  readonly signingKeys: SigningKeyRows;
  readonly tokenRevocations: TokenRevocationRows;
  readonly usage: UsageRows;
  readonly quota: QuotaLedger;
  readonly dataKeys: DataKeyRows;
  readonly idempotency: IdempotencyRows;
  readonly idTags: IdTagRows;
  readonly jobLeases: JobLeaseRows;
  readonly logCursors: LogCursorRows;
  readonly meta: SqlMeta;
  readonly time: StoredTime;
  /** The most concurrent reads of keys that are not cached, so that a flood of them leaves capacity to others. */
  readonly coldReadsMax: number;
  readonly readsAtOnce: ReadsAtOnce;
  /** The registry of nodes on this database; null when all processes are on one machine. */
  readonly nodes: NodeRegistry | null;
  /** Stops accepting writes, waits for those in progress, and closes the database. A second call waits too. */
  close(): Promise<void>;
}

/** How many reads for callers may run at once, so that they leave the database to verifications and writes. */
export interface ReadsAtOnce {
  /** Lists, searches, reports, and single records that are shown. */
  readonly shown: number;
  /** Records that commands change, and that tokens are issued for. */
  readonly commands: Readonly<Record<Lane, number>>;
}

/** The registry of the nodes on a database, for dividing rate limits. */
export interface NodeRegistry {
  /**
   * Registers this node until it stops. `together`: it counts limits in Redis. `alone`: it counts in memory; one other
   * such node may run, which it replaces. Returns when the other node is sure to admit only its share: after about
   * three seconds.
   *
   * @throws PantheonError `redis_required` when there are already two nodes that count alone, or nodes that count in
   * the other way.
   */
  join(counting: 'together' | 'alone'): Promise<void>;
  /**
   * The number of nodes, including this one, that a limit is divided by while this node counts alone. At least 1. For
   * nodes that count in Redis it may be a few seconds old. For nodes that count alone it is never too small: 2 unless
   * it is certain that there is no other node.
   */
  count(): number;
}

export interface DatabaseContext {
  readonly clock: Clock;
  /** Called with warnings for the operator. */
  readonly onWarning: (warning: string) => void;
  /** The most keys of a tenant that are not revoked. Default: 1 000 000. */
  readonly keysPerTenantMax?: number | undefined;
}

/** A database that is not opened yet. Made by `pantheon-auth/postgres`. */
export interface DatabaseSource {
  /** @throws PantheonError `schema_too_old`, `schema_too_new`, `store_unusable`, `store_unavailable`, `store_read_only`. */
  open(context: DatabaseContext): Promise<Database>;
}

/** The parts of an opened database that differ between SQLite and PostgreSQL. */
export interface DatabaseParts {
  /** For short reads by an index, which requests and verifications wait for. */
  readonly read: Kysely<Tables>;
  /** For lists, searches and reports, which never block the event loop. Each read sees all earlier commits. */
  readonly scan: Kysely<Tables>;
  /** For short reads of commands that end access. On PostgreSQL these connections are reserved for such commands. */
  readonly protectiveRead: Kysely<Tables>;
  readonly writer: WriteQueue;
  readonly dialect: SqlDialect;
  readonly log: LogReader;
  readonly coldReadsMax: number;
  readonly readsAtOnce: ReadsAtOnce;
  readonly keysPerTenantMax: number | undefined;
  readonly nodes: NodeRegistry | null;
  readonly close: () => Promise<void>;
}

export function assemble(parts: DatabaseParts): Database {
  const { read, writer, dialect, log, coldReadsMax, readsAtOnce, nodes, close } = parts;
  let closed: Promise<void> | null = null;
  return {
    ledger: new SqlLedger(writer, dialect, parts.keysPerTenantMax),
    log,
    events: new SqlEventRows(parts, dialect),
    keys: new SqlKeyRows(parts, dialect),
    keySchedules: new SqlKeyScheduleRows(parts),
    nextSecrets: new SqlNextSecretRows(read),
    tenants: new SqlTenantRows(parts),
    signingKeys: new SqlSigningKeyRows(read),
    tokenRevocations: new SqlTokenRevocationRows(parts),
    usage: new SqlUsageRows(parts),
    quota: new SqlQuotaLedger(writer, dialect),
    dataKeys: new SqlDataKeyRows(read, writer),
    idempotency: new SqlIdempotencyRows(read, writer),
    idTags: new SqlIdTagRows(read),
    jobLeases: new SqlJobLeaseRows(parts),
    logCursors: new SqlLogCursorRows(parts),
    meta: new SqlMeta(read, writer),
    time: new SqlStoredTime(parts, writer),
    coldReadsMax,
    readsAtOnce,
    nodes,
    close: () => {
      closed ??= close();
      return closed;
    },
  };
}
