/**
 * The audit trail as its readers and writers see it: events in, events out. It seals the personal part beside the open
 * one and makes the leaf. The order comes from the ledger; who may read is decided by the callers.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  type AuditEvent,
  joinEvent,
  type LoggedEvent,
  type OpenEvent,
  type PersonalPart,
  splitEvent,
} from '../domain/event.ts';
import { canonicalJson } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Sealer } from '../kms/place.ts';
import type { ActOnKey, ActQuery, EventQuery, EventRows, StoredEvent } from './event-rows.ts';
import type { EventRow } from './ledger.ts';
import { LEAF_RANDOM_BYTES, leafHash } from './merkle.ts';

const SALT_BYTES = 16;
/** One page of the trail: about 100 kB of JSON. */
export const EVENTS_PAGE_MAX = 200;

export class EventLog {
  readonly #rows: EventRows;
  readonly #sealer: Sealer;

  constructor(rows: EventRows, sealer: Sealer) {
    this.#rows = rows;
    this.#sealer = sealer;
  }

  /** Events as the ledger takes them. */
  async toRows(events: readonly [AuditEvent, ...AuditEvent[]]): Promise<[EventRow, ...EventRow[]]> {
    const [first, ...rest] = events;
    return [await this.#toRow(first), ...(await Promise.all(rest.map((event) => this.#toRow(event))))];
  }

  async list(query: EventQuery): Promise<readonly LoggedEvent[]> {
    const stored = await this.#rows.list({ ...query, limit: Math.min(query.limit, EVENTS_PAGE_MAX + 1) });
    return Promise.all(stored.map((row) => this.#fromRow(row)));
  }

  /** What a key did to keys: only that, so nothing is opened. */
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

  async #fromRow(row: StoredEvent): Promise<LoggedEvent> {
    const open = JSON.parse(row.body) as OpenEvent;
    return joinEvent(open, await this.#personalOf(row), row.seq);
  }

  /** Null when it was erased, and when it no longer opens: one damaged row must not hide the rest of the trail. */
  async #personalOf(row: StoredEvent): Promise<PersonalPart | null> {
    if (row.personal === null) return null;
    try {
      return JSON.parse((await this.#sealer.open(personalPlace(row), row.personal)).toString('utf8')) as PersonalPart;
    } catch (error) {
      if (error instanceof PantheonError && error.code === 'key_quarantined') return null;
      throw error;
    }
  }
}

function personalPlace(event: { readonly id: string; readonly tenantId: string }): Parameters<Sealer['seal']>[0] {
  return { table: 'event_details', column: 'sealed', tenantId: event.tenantId, rowId: event.id, version: 0 };
}
