/**
 * Converts events to rows and back: seals the personal part and computes the leaf hash. The ledger assigns the order;
 * the callers check permissions.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  type AuditEvent,
  type DamagedEvent,
  type EventType,
  joinEvent,
  type LoggedEvent,
  type OpenEvent,
  type PersonalPart,
  splitEvent,
} from '../domain/event.ts';
import { canonicalJson } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { ListPart } from '../foundation/list-part.ts';
import { inTurns } from '../foundation/turns.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import type { ActOnKey, ActQuery, EventQuery, EventRows, StoredEvent } from './event-rows.ts';
import type { EventRow } from './ledger.ts';
import { LEAF_RANDOM_BYTES, leafHash } from './merkle.ts';

const SALT_BYTES = 16;
/** The largest page of events: about 100 kB of JSON. */
export const EVENTS_PAGE_MAX = 200;
/** Decrypting and parsing so many takes about a millisecond. */
const OPENED_PER_TURN = 10;

export class EventCodec {
  readonly #rows: EventRows;
  readonly #sealer: Sealer;

  constructor(rows: EventRows, sealer: Sealer) {
    this.#rows = rows;
    this.#sealer = sealer;
  }

  /** Converts events to rows for the ledger. */
  async toRows(events: readonly [AuditEvent, ...AuditEvent[]]): Promise<[EventRow, ...EventRow[]]> {
    const [first, ...rest] = events;
    return [await this.#toRow(first), ...(await Promise.all(rest.map((event) => this.#toRow(event))))];
  }

  /**
   * At most `limit` events; fewer if they are large, or if few of many events match. A damaged event is returned as
   * such.
   *
   * @throws the reason of `signal`.
   */
  async list(query: EventQuery, signal?: AbortSignal): Promise<ListPart<LoggedEvent | DamagedEvent, number>> {
    const limit = Math.min(query.limit, EVENTS_PAGE_MAX);
    const { items, next } = await this.#rows.list({ ...query, limit }, signal);
    return { items: await inTurns(items, { perTurn: OPENED_PER_TURN, signal }, (row) => this.#fromRow(row)), next };
  }

  /** The `seq` of the last event of that type, about this subject if it is named; null: there is none. */
  lastSeq(tenantId: string, type: EventType, subjectId?: string): Promise<number | null> {
    return this.#rows.lastSeq(tenantId, type, subjectId);
  }

  /** The events in which a key acted on keys, without their content, so nothing is decrypted. */
  actsOnKeys(query: ActQuery): Promise<readonly ActOnKey[]> {
    return this.#rows.actsOnKeys(query);
  }

  async #toRow(event: AuditEvent): Promise<EventRow> {
    const { open, personal } = splitEvent(event);
    const sealed = JSON.stringify({ salt: randomBytes(SALT_BYTES).toString('base64url'), ...personal });
    const body = canonicalJson({ ...open, personalHash: createHash('sha256').update(sealed).digest('hex') });
    const leafRandom = randomBytes(LEAF_RANDOM_BYTES);
    return {
      id: event.id,
      at: event.at,
      tenantId: event.tenantId,
      type: event.type,
      subjectType: event.subject.type,
      subjectId: event.subject.id,
      actorKeyId: event.actor.keyId,
      body,
      leafRandom,
      leaf: leafHash(leafRandom, body),
      personal: await this.#sealer.seal(personalPlace(event), Buffer.from(sealed, 'utf8')),
    };
  }

  async #fromRow(row: StoredEvent): Promise<LoggedEvent | DamagedEvent> {
    const open = openPartOf(row);
    if (open === null) return damagedEvent(row);
    const personal = await this.#personalOf(row, open.personalHash);
    const event = joinEvent(open, personal === 'damaged' ? null : personal, row.seq);
    return personal === 'damaged' ? { ...event, damaged: true } : event;
  }

  /** The personal part; null when it was erased. If it is damaged the rest of the event must still be readable. */
  async #personalOf(row: StoredEvent, hash: string): Promise<PersonalPart | null | 'damaged'> {
    if (row.personal === null) return null;
    try {
      const opened = await this.#sealer.open(personalPlace(row), row.personal);
      if (createHash('sha256').update(opened).digest('hex') !== hash) return 'damaged';
      return JSON.parse(opened.toString('utf8')) as PersonalPart;
    } catch (error) {
      if (error instanceof PantheonError && error.code === 'key_quarantined') return 'damaged';
      throw error;
    }
  }
}

/**
 * Parses the body after checking it against the leaf hash and against the columns of the row, which decide who may read
 * the event and which filter finds it. Null: it is damaged.
 */
function openPartOf(row: StoredEvent): OpenEvent | null {
  if (!leafHash(row.leafRandom, row.body).equals(row.leaf)) return null;
  try {
    const open = JSON.parse(row.body) as OpenEvent;
    const { id, at, tenantId, type, subject } = open;
    const said = [id, Date.parse(at), tenantId, type, subject.type, subject.id];
    const stands = [row.id, row.at, row.tenantId, row.type, row.subjectType, row.subjectId];
    return said.every((one, n) => one === stands[n]) ? open : null;
  } catch {
    return null; // The hash matches, but it is no event: not written by this library.
  }
}

function damagedEvent({ id, seq, at, tenantId, type, subjectType, subjectId }: StoredEvent): DamagedEvent {
  return { id, seq, at, tenantId, type, subject: { type: subjectType, id: subjectId }, damaged: true };
}

function personalPlace(event: { readonly id: string; readonly tenantId: string }): Parameters<Sealer['seal']>[0] {
  return { table: 'event_details', column: 'sealed', tenantId: event.tenantId, rowId: event.id, version: 0 };
}
