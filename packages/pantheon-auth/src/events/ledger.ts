/**
 * The one way to change access state (I2): `commit` writes rows and their events in one transaction, and has no form
 * without an event. This is the port; the SQL is `storage/sql-ledger.ts`.
 */

import type { EventType, SubjectType } from '../domain/event.ts';
import type { StoredRevision } from '../domain/revision.ts';
import type { Instant } from '../foundation/clock.ts';
import type { AccessTable, AccessTables, RowKeys } from '../schema/access-tables.ts';
import type { IdempotencyRow } from '../schema/idempotency-row.ts';
import type { KeyScheduleWrite } from '../schema/key-schedule-row.ts';

interface RowInsert<Table extends AccessTable> {
  readonly kind: 'insert';
  readonly table: Table;
  readonly row: Readonly<AccessTables[Table]>;
}

interface RowUpdate<Table extends AccessTable> {
  readonly kind: 'update';
  readonly table: Table;
  readonly where: Readonly<RowKeys[Table]>;
  readonly set: Readonly<Partial<AccessTables[Table]>>;
  /** Checked against what is stored, so that no change is lost. If it cannot be raised, `set` has the new one. */
  readonly expectedRevision: StoredRevision;
  /** Checked instead, for a row that is rebuilt from its events: the revision that it has. */
  readonly revisionAsStored?: StoredRevision | undefined;
}

interface RowDelete<Table extends AccessTable> {
  readonly kind: 'delete';
  readonly table: Table;
  readonly where: Readonly<RowKeys[Table]>;
}

/** What is done to a table: only columns that it has can be named. */
export type RowChange = {
  [Table in AccessTable]: RowInsert<Table> | RowUpdate<Table> | RowDelete<Table>;
}[AccessTable];

/** An event as a row of the log: the hashed body, the sealed personal part, and columns that followers read. */
export interface EventRow {
  readonly id: string;
  readonly at: Instant;
  readonly tenantId: string;
  readonly type: EventType;
  readonly subjectType: SubjectType;
  readonly subjectId: string;
  /** The id of the acting key, as in the body; null: the process. Used by filters and by the write queue. */
  readonly actorKeyId: string | null;
  /** Canonical JSON (RFC 8785) of the open part, with the salted hash of the personal part. */
  readonly body: string;
  /** 32 random bytes, so that a leaf hash in a public proof confirms no guess about the event. */
  readonly leafRandom: Uint8Array;
  /** SHA-256(0x00 ‖ leafRandom ‖ body), see `merkle.ts`. */
  readonly leaf: Uint8Array;
  /** The personal part, sealed. */
  readonly personal: Uint8Array;
}

/** A row of operational state that is committed in the same transaction as the change. */
export interface IdempotencyRecord {
  readonly table: 'idempotency';
  readonly row: Readonly<IdempotencyRow>;
}

interface RowAsRead<Table extends AccessTable> {
  readonly kind: 'row';
  readonly table: Table;
  readonly where: Readonly<RowKeys[Table]>;
  readonly revision: number;
}

interface RowAbsent<Table extends AccessTable> {
  readonly kind: 'absent';
  readonly table: Table;
  readonly where: Readonly<RowKeys[Table]>;
}

/** The row exists with the revision that was read. */
export type RowPrecondition = RowAsRead<'tenants'> | RowAsRead<'api_keys'> | RowAsRead<'signing_keys'>;

/** A condition that is checked in the transaction of the commit. */
export type Precondition =
  | RowPrecondition
  /** No such row exists. */
  | RowAbsent<'token_revocations'>
  | LeaseHeld;

/** No other run of the job has begun since this one, on any node. */
export interface LeaseHeld {
  readonly kind: 'lease';
  /** The name of the job. */
  readonly name: string;
  /** The node of the run. After a failover that loses commits, a run of another node can get the same number. */
  readonly nodeId: string;
  /** The number of the run. */
  readonly fence: number;
}

export interface Commit {
  readonly changes: readonly RowChange[];
  readonly preconditions?: readonly Precondition[];
  readonly events: readonly [EventRow, ...EventRow[]];
  readonly idempotencyRecords?: readonly IdempotencyRecord[];
  /** When the keys of this change are looked at again: operational state, committed in the same transaction. */
  readonly keySchedules?: readonly KeyScheduleWrite[];
  /** Sets the recorded time, after an operator has accepted it. */
  readonly acceptedTime?: Instant;
}

export interface Ledger {
  /**
   * Commits everything in one transaction, durable when it returns (I13). Events get their `seq` last, while the head
   * row is locked (I3). Its queue position follows from its events (`write-lanes.ts`).
   *
   * @throws PantheonError `conflict` when a revision is not the expected one, a precondition does not hold or an id is
   * taken, `store_unavailable`, `too_many_keys`, `overloaded`, `store_read_only`, `store_full`, or `outcome_unknown`
   * when it cannot be known whether it happened.
   */
  commit(commit: Commit): Promise<{ readonly seq: number }>;
}

/** The part of an event that followers need. */
export interface EventNotice {
  readonly seq: number;
  readonly id: string;
  readonly type: EventType;
  readonly tenantId: string;
  readonly subjectType: SubjectType;
  readonly subjectId: string;
}

/** The head of the log: its last `seq`, and the date of its last event. */
export interface Head {
  readonly seq: number;
  readonly at: Instant;
  /**
   * The id of the last event, to tell this log from another of the same length, as after a failover that lost events.
   * Null: not read.
   */
  readonly eventId: string | null;
  /** The server that answered. Another one may lack events that it never received. Null: there is only one. */
  readonly server: string | null;
  /** The time of the database server when it answered. Null: it is on this machine. */
  readonly storeNow: Instant | null;
}

/** The port for following the log. */
export interface LogReader {
  /** Reads the head synchronously (SQLite); null if that is not possible (PostgreSQL). */
  readonly headSync: (() => Head) | null;
  /**
   * Registers a listener that is called when the head may have moved; null if the database has no notifications.
   * Notifications may be lost.
   */
  readonly onNotify: ((listener: () => void) => void) | null;
  head(): Promise<Head>;
  /** Events from `seq` on, in order, at most `limit`. */
  noticesFrom(seq: number, limit: number): Promise<readonly EventNotice[]>;
}
