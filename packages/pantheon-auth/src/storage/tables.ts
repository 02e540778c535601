/**
 * Every table and who may write it. Access state can change a verdict and is written by `commit` alone, in
 * `sql-ledger.ts`: its rows are `schema/access-tables.ts`. Operational state can never turn a no into a yes. Times are
 * milliseconds since 1970, lists and objects are JSON text.
 */
import type { AccessTables } from '../schema/access-tables.ts';
import type { IdempotencyRow } from '../schema/idempotency-row.ts';
import type { KeyScheduleRow } from '../schema/key-schedule-row.ts';

/** The log. `events` is append-only; `event_details` loses a row when a person's data is erased. */
export interface LogTables {
  log_head: { id: number; seq: number; at: number };
  events: EventTableRow;
  event_details: { event_id: string; tenant_id: string; sealed: Uint8Array };
}

/** Operational state. */
export interface OperationalTables {
  /** Facts about the database itself: its id, the sealed canary, `stalenessMaxMs`. */
  meta: { name: string; value: string };
  data_keys: DataKeyRow;
  /** Keys that are not revoked. Written by `commit`, which refuses more than a tenant may have. */
  key_counts: { tenant_id: string; keys: number };
  usage_counts: UsageCountRow;
  key_usage: KeyUsageRow;
  tenant_usage: TenantUsageRow;
  version_usage: VersionUsageRow;
  usage_batches: { id: string; at: number };
  quota_leases: { tenant_id: string; key_id: string; period: string; reserved: number };
  idempotency: IdempotencyRow;
  /** Written by `commit`, by the job that looks at keys, and when an awaited use is stored. */
  key_schedules: KeyScheduleRow;
  job_leases: JobLeaseRow;
  log_consumers: LogConsumerRow;
}

export interface Tables extends AccessTables, LogTables, OperationalTables {}

export interface EventTableRow {
  seq: number;
  id: string;
  at: number;
  tenant_id: string;
  type: string;
  subject_type: string;
  subject_id: string;
  /** The actor's key as the body says, so that it can be searched; outside of what the leaf covers. */
  actor_key_id: string | null;
  body: string;
  leaf_random: Uint8Array;
  leaf: Uint8Array;
}

export interface DataKeyRow {
  id: string;
  tenant_id: string;
  wrapped: Uint8Array;
  created_at: number;
  /** No longer seals; still opens. */
  retired_at: number | null;
  /** Seals that were handed out, in blocks. */
  seals: number;
}

export interface UsageCountRow {
  tenant_id: string;
  key_id: string;
  version: number;
  /** Start of the minute. */
  minute: number;
  outcome: string;
  count: number;
}

/** Uses of a key, all its versions together. */
export interface KeyUsageRow {
  tenant_id: string;
  key_id: string;
  /** `hour` or `day`; minutes are in `usage_counts`. */
  step: string;
  /** Start of the step. */
  since: number;
  outcome: string;
  count: number;
}

/** Uses of all keys of a tenant. */
export interface TenantUsageRow {
  tenant_id: string;
  /** `minute`, `hour` or `day`. */
  step: string;
  since: number;
  outcome: string;
  count: number;
}

export interface VersionUsageRow {
  tenant_id: string;
  key_id: string;
  version: number;
  usage_count: number;
  last_used_at: number;
  /** The latest few, JSON. */
  last_addresses: string;
}

export interface JobLeaseRow {
  /** Of the job. */
  name: string;
  /** The node that runs it, or ran it last: a random id of its process. */
  node_id: string;
  /** How many runs there were: each has a number of its own, so that one that lost its lease can be told from the next. */
  fence: number;
  /** No other node runs it before this, by the time of the store. */
  expires_at: number;
  /** Nobody runs it before this, by the clocks of the nodes. */
  due_at: number;
  /** Runs that failed since the last that did not. */
  failures: number;
}

export interface LogConsumerRow {
  name: string;
  /** The last event that was consumed; 0: none yet. */
  seq: number;
  /** Its id, by which another log is recognised. Null: none yet. */
  event_id: string | null;
}
