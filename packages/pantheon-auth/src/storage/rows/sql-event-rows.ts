/** The log read back whole, page by page. */
import { type Expression, type Kysely, type SelectQueryBuilder, type SqlBool, sql } from 'kysely';
import type { EventType } from '../../domain/event.ts';
import type { ActOnKey, ActQuery, EventQuery, EventRows, StoredEvent } from '../../events/event-rows.ts';
import type { ListPart } from '../../foundation/list-part.ts';
import type { SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import { scan } from './scan.ts';

/** An event without its body: seals and hashes, and the details, which hold little more than a user agent. */
const BYTES_BESIDE_BODY = 1_000;

interface Slice {
  readonly after: number | null;
  readonly rows: number;
  readonly limit: number;
}

export class SqlEventRows implements EventRows {
  readonly #read: Kysely<Tables>;
  readonly #scan: Kysely<Tables>;
  readonly #dialect: SqlDialect;

  constructor(db: { readonly read: Kysely<Tables>; readonly scan: Kysely<Tables> }, dialect: SqlDialect) {
    this.#read = db.read;
    this.#scan = db.scan;
    this.#dialect = dialect;
  }

  async lastSeq(tenantId: string, type: EventType, subjectId?: string): Promise<number | null> {
    // No index has the subject and the type, so later events of the subject are passed over.
    const db = subjectId === undefined ? this.#read : this.#scan;
    let events = db.selectFrom('events').where('tenant_id', '=', tenantId).where('type', '=', type);
    if (subjectId !== undefined) events = events.where('subject_id', '=', subjectId);
    return (await events.select('seq').orderBy('seq', 'desc').limit(1).executeTakeFirst())?.seq ?? null;
  }

  async list(query: EventQuery, signal?: AbortSignal): Promise<ListPart<StoredEvent, number>> {
    const filters = unindexedFilters(query);
    const { items, next } = await scan({
      limit: query.limit,
      after: query.after,
      isWhole: filters.length === 0,
      signal,
      matches: (after, rows, limit) => this.#matches(query, filters, { after, rows, limit }),
      endOf: (after, rows) => this.#endOf(query, after, rows),
      positionOf: ({ seq }) => seq,
    });
    signal?.throwIfAborted();
    const seqs = items.map(({ seq }) => seq);
    return { items: seqs.length === 0 ? [] : await this.#whole(seqs, query.order), next };
  }

  async actsOnKeys({ actorKeyId, types, after, limit }: ActQuery): Promise<readonly ActOnKey[]> {
    const rows = await this.#scan
      .selectFrom('events')
      .select(['seq', 'at', 'type', 'tenant_id', 'subject_id'])
      .where('actor_key_id', '=', actorKeyId)
      .where('seq', '>', after)
      .where('subject_type', '=', 'key')
      .where('type', 'in', types)
      .orderBy('seq')
      .limit(limit)
      .execute();
    // Written by us, from the list of all types.
    return rows.map((row) => ({
      seq: row.seq,
      at: row.at,
      type: row.type as EventType,
      tenantId: row.tenant_id,
      keyId: row.subject_id,
    }));
  }

  async #matches(
    query: EventQuery,
    filters: readonly Expression<SqlBool>[],
    { after, rows, limit }: Slice,
  ): Promise<readonly { readonly seq: number; readonly bytes: number }[]> {
    const bytes = sql<number>`octet_length(body) + ${sql.lit(BYTES_BESIDE_BODY)}`.as('bytes');
    return this.#scan
      .with('slice', () =>
        this.#slice(query, after).select(['seq', 'type', 'subject_type', 'subject_id', bytes]).limit(rows),
      )
      .selectFrom('slice')
      .select(['seq', 'bytes'])
      .where((eb) => eb.and([...filters]))
      .orderBy('seq', directionOf(query))
      .limit(limit)
      .execute();
  }

  async #endOf(query: EventQuery, after: number | null, rows: number): Promise<number | null> {
    const last = this.#slice(query, after)
      .select('seq')
      .offset(rows - 1)
      .limit(1);
    return (await last.executeTakeFirst())?.seq ?? null;
  }

  /** Events in the order of the list, narrowed only by what one index narrows: each slice is one range of it. */
  #slice(query: EventQuery, after: number | null): SelectQueryBuilder<Tables, 'events', object> {
    const { tenantId, type, subjectId, order } = query;
    let events = this.#scan.selectFrom('events');
    if (tenantId !== null) {
      events = events.where('tenant_id', '=', tenantId);
      if (subjectId !== null) events = events.where('subject_id', '=', subjectId);
      else if (type !== null) events = events.where('type', '=', type);
    }
    if (after !== null) events = events.where('seq', order === 'oldest_first' ? '>' : '<', after);
    return events.orderBy('seq', directionOf(query));
  }

  async #whole(seqs: readonly number[], order: EventQuery['order']): Promise<readonly StoredEvent[]> {
    const rows = await this.#scan
      .selectFrom('events as e')
      .leftJoin('event_details as d', 'd.event_id', 'e.id')
      .select(['e.seq', 'e.id', 'e.at', 'e.tenant_id', 'e.type', 'e.subject_type', 'e.subject_id'])
      .select(['e.body', 'e.leaf_random', 'e.leaf', 'd.sealed'])
      .where((eb) => this.#dialect.isOneOfNumbers(eb.ref('e.seq'), seqs))
      .orderBy('e.seq', directionOf({ order }))
      .execute();
    return rows.map((row) => ({
      seq: row.seq,
      id: row.id,
      at: row.at,
      tenantId: row.tenant_id,
      type: row.type,
      subjectType: row.subject_type,
      subjectId: row.subject_id,
      body: row.body,
      leafRandom: row.leaf_random,
      leaf: row.leaf,
      personal: row.sealed,
    }));
  }
}

function directionOf({ order }: Pick<EventQuery, 'order'>): 'asc' | 'desc' {
  return order === 'oldest_first' ? 'asc' : 'desc';
}

/** What the index of the slice does not narrow. */
function unindexedFilters({ tenantId, type, subjectType, subjectId }: EventQuery): readonly Expression<SqlBool>[] {
  const filters: Expression<SqlBool>[] = [];
  if (subjectType !== null) filters.push(sql`subject_type = ${subjectType}`);
  if (type !== null && (tenantId === null || subjectId !== null)) filters.push(sql`type = ${type}`);
  if (subjectId !== null && tenantId === null) filters.push(sql`subject_id = ${subjectId}`);
  return filters;
}
