/**
 * The one way to change access state (I2): `commit` writes rows and their events in one transaction, and has no form
 * without an event. This is the port; the SQL is `storage/sql-ledger.ts`.
 */

import type { EventType, SubjectType } from '../domain/event.ts';
import type { Instant } from '../foundation/clock.ts';
import type { AccessTable, AccessTables, RowKeys } from '../schema/access-tables.ts';
import type { IdempotencyRow } from '../schema/idempotency-row.ts';

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
  /** Checked against what is stored, so that no change is lost. */
  readonly expectedRevision: number;
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

/** An event ready for the log: what is hashed, what is sealed beside it, and what followers look at. */
export interface EventRow {
  readonly id: string;
  readonly at: Instant;
  readonly tenantId: string;
  readonly type: EventType;
  readonly subjectType: SubjectType;
  readonly subjectId: string;
  /** The key that did it, as the body says; null: the process. To be found by, and to wait its turn by. */
  readonly actorKeyId: string | null;
  /** Canonical JSON (RFC 8785) of the open part, with the salted hash of the personal part. */
  readonly body: string;
  /** 32 random bytes that keep a public proof from confirming guesses about its neighbours. */
  readonly leafRandom: Uint8Array;
  /** SHA-256(0x00 ‖ leafRandom ‖ body). */
  readonly leaf: Uint8Array;
  /** The personal part, sealed. */
  readonly personal: Uint8Array;
}

/** A row of operational state that must stand or fall with the change. */
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

/** The row is there, as it was read. */
export type RowPrecondition = RowAsRead<'tenants'> | RowAsRead<'api_keys'> | RowAsRead<'signing_keys'>;

/** What must still be so when the commit is made, though it does not change it. */
export type Precondition =
  | RowPrecondition
  /** There is no such row. */
  | RowAbsent<'token_revocations'>
  | LeaseHeld;

/** No other run of the job has begun since this one, on any node. */
export interface LeaseHeld {
  readonly kind: 'lease';
  /** Of the job. */
  readonly name: string;
  /** Of the run. A failover that loses the last commits can give its number again, to a run of another node. */
  readonly nodeId: string;
  /** The number of the run. */
  readonly fence: number;
}

export interface Commit {
  readonly changes: readonly RowChange[];
  readonly preconditions?: readonly Precondition[];
  readonly events: readonly [EventRow, ...EventRow[]];
  readonly idempotencyRecords?: readonly IdempotencyRecord[];
  /** An operator's word: what this store had recorded of the time until now is wrong, and the time is this. */
  readonly acceptedTime?: Instant;
}

export interface Ledger {
  /**
   * All of it or nothing, durable when it answers (I13). Events get their places last, under the head row (I3). Where it
   * waits for its turn is told by its events (`write-lanes.ts`).
   *
   * @throws PantheonError `conflict` when a revision is not the expected one, a precondition does not hold or an id is taken, `store_unavailable`,
   * `too_many_keys`, `overloaded`, `store_read_only`, `store_full`, or `outcome_unknown` when it cannot be known whether it happened.
   */
  commit(commit: Commit): Promise<{ readonly seq: number }>;
}

/** What a follower needs to know of an event. */
export interface EventNotice {
  readonly seq: number;
  readonly id: string;
  readonly type: EventType;
  readonly tenantId: string;
  readonly subjectType: SubjectType;
  readonly subjectId: string;
}

/** Where the log stands: its last `seq`, and when its last event was. */
export interface Head {
  readonly seq: number;
  readonly at: Instant;
  /** The last event: tells this log from another of the same length, as after a failover that lost some. Null: not asked. */
  readonly eventId: string | null;
  /** Which server answered. Another one may have lost what it never received. Null: there is only one. */
  readonly server: string | null;
  /** The time of the store when it answered. Null: it is on this machine. */
  readonly storeNow: Instant | null;
}

/** How a node follows the log. */
export interface LogReader {
  /** The head at this moment without waiting, where the store can (SQLite); null where it must be asked (PostgreSQL). */
  readonly headSync: (() => Head) | null;
  /** Calls back when the head may have moved, where the store tells; null where it does not. Some may be lost. */
  readonly onNotify: ((listener: () => void) => void) | null;
  head(): Promise<Head>;
  /** Events from `seq` on, in order, at most `limit`. */
  noticesFrom(seq: number, limit: number): Promise<readonly EventNotice[]>;
}
