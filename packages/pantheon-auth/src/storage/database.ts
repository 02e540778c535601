/** Everything that is stored, each thing behind the port of those who use it, whichever database it lies in. */
import type { Kysely } from 'kysely';
import type { IdTagRows } from '../api-keys/id-tag-rows.ts';
import type { KeyRows } from '../api-keys/key-rows.ts';
import type { IdempotencyRows } from '../commands/idempotency-rows.ts';
import type { EventRows } from '../events/event-rows.ts';
import type { Ledger, LogReader } from '../events/ledger.ts';
import type { StoredTime } from '../events/stored-time.ts';
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
import { SqlLogCursorRows } from './rows/sql-log-cursor-rows.ts';
import { SqlMeta } from './rows/sql-meta.ts';
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
  /** How many keys that are not remembered may be read at once: a flood of them must leave the store to others (I9). */
  readonly coldReadsMax: number;
  /** The nodes on this database; null where all processes are on one machine. */
  readonly nodes: NodeRegistry | null;
  /** Waits for the writes that were begun, takes no more, and leaves the database whole. A second call waits too. */
  close(): Promise<void>;
}

/** Which nodes run on a database, as far as their limits depend on each other. */
export interface NodeRegistry {
  /**
   * Takes a place for as long as this node runs. `together`: it counts limits where the others do. `alone`: by itself;
   * one other such node may run beside it, which it replaces. It is back when that other node is sure to admit its share
   * only: after about three seconds.
   *
   * @throws PantheonError `redis_required` when there are two such nodes already, or nodes that count otherwise.
   */
  join(counting: 'together' | 'alone'): Promise<void>;
  /**
   * How many nodes a limit is divided by when this one counts by itself, this one included. At least 1. Of nodes that
   * count together as of a few seconds ago; of those that count alone never too few: where it is not certain that there
   * is no other, the answer is 2.
   */
  count(): number;
}

export interface DatabaseContext {
  readonly clock: Clock;
  /** Told what was not as it should be. */
  readonly onWarning: (warning: string) => void;
  /** How many keys a tenant may have that are not revoked. Default 1 000 000. */
  readonly keysPerTenantMax?: number | undefined;
}

/** A database that is not open yet: `pantheon-auth/postgres` makes one. */
export interface DatabaseSource {
  /** @throws PantheonError `schema_too_old`, `schema_too_new`, `store_unusable`, `store_unavailable`, `store_read_only`. */
  open(context: DatabaseContext): Promise<Database>;
}

/** What differs from one database to the next, opened. */
export interface DatabaseParts {
  /** For short reads by an index: what a request or a verification waits for. */
  readonly read: Kysely<Tables>;
  /** For lists, searches and reports: what runs here never keeps the event loop from turning. Sees every commit before it. */
  readonly scan: Kysely<Tables>;
  readonly writer: WriteQueue;
  readonly dialect: SqlDialect;
  readonly log: LogReader;
  readonly coldReadsMax: number;
  readonly keysPerTenantMax: number | undefined;
  readonly nodes: NodeRegistry | null;
  readonly close: () => Promise<void>;
}

export function assemble(parts: DatabaseParts): Database {
  const { read, writer, dialect, log, coldReadsMax, nodes, close } = parts;
  let closed: Promise<void> | null = null;
  return {
    ledger: new SqlLedger(writer, dialect, parts.keysPerTenantMax),
    log,
    events: new SqlEventRows(parts, dialect),
    keys: new SqlKeyRows(parts, dialect),
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
    nodes,
    close: () => {
      closed ??= close();
      return closed;
    },
  };
}
