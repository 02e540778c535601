/** Reads the audit trail of one tenant in pages, for callers with the permission. */
import { type ChangeOptions, callerIn } from '../domain/caller.ts';
import type { DamagedEvent, EventType, LoggedEvent, SubjectType } from '../domain/event.ts';
import { isEventType } from '../domain/event-data.ts';
import { assertMay, type Caller } from '../domain/key-policy.ts';
import type { ShownReads } from '../domain/reader.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { assertFilters } from '../foundation/filters.ts';
import type { SealedCursors } from '../kms/sealed-cursor.ts';
import { EVENTS_PAGE_MAX, type EventCodec } from './event-codec.ts';

export interface EventFilter {
  readonly type?: string;
  readonly subjectType?: SubjectType;
  readonly subjectId?: string;
  /** Default: newest first. */
  readonly order?: 'newest_first' | 'oldest_first';
  readonly cursor?: string;
  /** Default: 50, at most {@link EVENTS_PAGE_MAX}. A page may have fewer events, or none, although there are more. */
  readonly limit?: number;
}

/** `seq` would reveal how active other tenants are, so only keys of the system tenant see it. */
type AsTenantSees<Event> = Omit<Event, 'seq' | 'at'> & {
  readonly at: Date;
  readonly seq?: number;
  /** All that the event is about. The first is the main one, which `subject` names; today no event has more. */
  readonly subjects: readonly { readonly type: string; readonly id: string }[];
};

/**
 * An event as shown to its tenant. If its row is damaged, only its position and type are shown, with `damaged`. If only
 * its personal part is damaged, the rest is shown.
 */
export type TenantEvent = AsTenantSees<LoggedEvent> | AsTenantSees<DamagedEvent>;

export interface AuditLog {
  /**
   * Lists events. A page is shorter than `limit` when many events that do not match the filter were read, or when its
   * events are large. Only `nextCursor` shows whether it is the last page.
   *
   * @throws PantheonError `not_found` (tenant), `insufficient_permissions`, `invalid_request`, `invalid_cursor`;
   * `overloaded` when too many lists of this tenant wait, or this one waited too long; the code of the denial when the
   * caller may no longer act; the reason of `signal` when aborted.
   */
  list(
    tenantId: string,
    filter?: EventFilter,
    options?: ChangeOptions & { readonly signal?: AbortSignal },
  ): Promise<{
    readonly items: readonly TenantEvent[];
    readonly nextCursor: string | null;
  }>;
}

const PAGE_DEFAULT = 50;
const FILTERS: ReadonlySet<keyof EventFilter> = new Set([
  ...(['type', 'subjectType', 'subjectId', 'order', 'cursor', 'limit'] as const),
]);

export class AuditLogReader implements AuditLog {
  readonly #log: EventCodec;
  readonly #cursors: SealedCursors;
  readonly #shownReads: ShownReads;

  constructor(deps: { readonly log: EventCodec; readonly cursors: SealedCursors; readonly shownReads: ShownReads }) {
    this.#log = deps.log;
    this.#cursors = deps.cursors;
    this.#shownReads = deps.shownReads;
  }

  async list(
    tenantId: string,
    filter: EventFilter = {},
    options: ChangeOptions & { readonly signal?: AbortSignal } = {},
  ): ReturnType<AuditLog['list']> {
    const by = callerIn(options);
    // The database query takes null for all tenants.
    if (typeof tenantId !== 'string')
      throw new PantheonError('invalid_request', { field: 'tenantId', detail: 'The id of a tenant.' });
    assertMay(by, 'events.read', tenantId);
    assertFilters(filter, FILTERS);
    const { limit = PAGE_DEFAULT, order = 'newest_first', subjectType = null, subjectId = null, cursor } = filter;
    if (!Number.isInteger(limit) || limit < 1 || limit > EVENTS_PAGE_MAX) {
      throw new PantheonError('invalid_request', {
        field: 'limit',
        detail: `A whole number from 1 to ${EVENTS_PAGE_MAX}.`,
      });
    }
    const after = cursor === undefined ? null : Number(await this.#cursors.read(`events ${order}`, tenantId, cursor));
    const type = filter.type === undefined ? null : parseType(filter.type);
    const query = { tenantId, type, subjectType, subjectId, after, order, limit };
    const { signal } = options;
    const shown = { by, action: 'events.read', tenantId, signal } as const;
    const { items, next } = await this.#shownReads.run(shown, () => this.#log.list(query, signal));
    const nextCursor = next === null ? null : await this.#cursors.write(`events ${order}`, tenantId, next);
    return { items: items.map((event) => toTenantEvent(event, seesPlaces(by))), nextCursor };
  }
}

function toTenantEvent({ seq, at, ...event }: LoggedEvent | DamagedEvent, withSeq: boolean): TenantEvent {
  return { ...event, subjects: [event.subject], at: new Date(at as Instant), ...(withSeq ? { seq } : {}) };
}

function seesPlaces(by: Caller): boolean {
  return by.authority.kind === 'process' || by.authority.tenantId === SYSTEM_TENANT;
}

function parseType(text: string): EventType {
  if (isEventType(text)) return text;
  throw new PantheonError('invalid_request', { field: 'type', detail: 'There is no such event type.' });
}
