/** The port for reading complete events. Implemented in `storage/rows/`. */
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
  /** Null when the personal part was erased. */
  readonly personal: Uint8Array | null;
}

export interface EventQuery {
  /** Null: every tenant. */
  readonly tenantId: string | null;
  readonly type: EventType | null;
  readonly subjectType: SubjectType | null;
  readonly subjectId: string | null;
  /** Strictly after this `seq` in the requested order. */
  readonly after: number | null;
  readonly order: 'oldest_first' | 'newest_first';
  readonly limit: number;
}

/** An event in which a key acted on a key, without its content. */
export interface ActOnKey {
  readonly seq: number;
  readonly at: Instant;
  readonly type: EventType;
  readonly tenantId: string;
  readonly keyId: string;
}

export interface ActQuery {
  /** The key that acted, authenticated by its key string or a token. */
  readonly actorKeyId: string;
  readonly types: readonly EventType[];
  /** Strictly after this `seq`. */
  readonly after: number;
  readonly limit: number;
}

export interface EventRows {
  /** In order of `seq`. The events are not decrypted. */
  actsOnKeys(query: ActQuery): Promise<readonly ActOnKey[]>;
  /** The `seq` of the last event of that type, about this subject if it is named; null: there is none. */
  lastSeq(tenantId: string, type: EventType, subjectId?: string): Promise<number | null>;
  /**
   * At most `limit` events; fewer if they are large, or if few of many events match. @throws the reason of `signal`.
   */
  list(query: EventQuery, signal?: AbortSignal): Promise<ListPart<StoredEvent, number>>;
}
