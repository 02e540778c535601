/** The port through which the log is read back whole. Implemented over SQL. */
import type { EventType, SubjectType } from '../domain/event.ts';
import type { Instant } from '../foundation/clock.ts';
import type { ListPart } from '../foundation/list-part.ts';

export interface StoredEvent {
  readonly seq: number;
  readonly id: string;
  readonly at: Instant;
  readonly tenantId: string;
  /** Of a later version it may be one that this version does not know. So may the next. */
  readonly type: string;
  readonly subjectType: string;
  readonly subjectId: string;
  readonly body: string;
  readonly leafRandom: Uint8Array;
  readonly leaf: Uint8Array;
  /** Null when it was erased. */
  readonly personal: Uint8Array | null;
}

export interface EventQuery {
  /** Null: of every tenant. */
  readonly tenantId: string | null;
  readonly type: EventType | null;
  readonly subjectType: SubjectType | null;
  readonly subjectId: string | null;
  /** Strictly beyond this `seq` in the order asked for. */
  readonly after: number | null;
  readonly order: 'oldest_first' | 'newest_first';
  readonly limit: number;
}

/** What a key did to a key, without what it said. */
export interface ActOnKey {
  readonly seq: number;
  readonly type: EventType;
  readonly tenantId: string;
  readonly keyId: string;
}

export interface ActQuery {
  /** The key that acted, by its string or by a token. */
  readonly actorKeyId: string;
  readonly types: readonly EventType[];
  /** Strictly after this `seq`. */
  readonly after: number;
  readonly limit: number;
}

export interface EventRows {
  /** In order. The events are not opened. */
  actsOnKeys(query: ActQuery): Promise<readonly ActOnKey[]>;
  /** Whether there is any of that type. */
  has(tenantId: string, type: EventType): Promise<boolean>;
  /** At most `limit`, and fewer where they are large or where few of many match. @throws the reason of `signal`. */
  list(query: EventQuery, signal?: AbortSignal): Promise<ListPart<StoredEvent, number>>;
}
