/** The log read back whole. */
import type { Kysely } from 'kysely';
import type { EventType } from '../domain/event.ts';
import type { ActOnKey, ActQuery, EventQuery, EventRows, StoredEvent } from '../events/event-rows.ts';
import type { Tables } from './tables.ts';

export class SqlEventRows implements EventRows {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async list(query: EventQuery): Promise<readonly StoredEvent[]> {
    const { tenantId, type, subjectType, subjectId, after } = query;
    const [beyond, direction] = query.order === 'oldest_first' ? (['>', 'asc'] as const) : (['<', 'desc'] as const);
    const rows = await this.#db
      .selectFrom('events as e')
      .leftJoin('event_details as d', 'd.event_id', 'e.id')
      .select(['e.seq', 'e.id', 'e.at', 'e.tenant_id', 'e.type', 'e.subject_type', 'e.subject_id'])
      .select(['e.body', 'e.leaf_random', 'e.leaf', 'd.sealed'])
      .$if(tenantId !== null, (events) => events.where('e.tenant_id', '=', tenantId))
      .$if(type !== null, (events) => events.where('e.type', '=', type))
      .$if(subjectType !== null, (events) => events.where('e.subject_type', '=', subjectType))
      .$if(subjectId !== null, (events) => events.where('e.subject_id', '=', subjectId))
      .$if(after !== null, (events) => events.where('e.seq', beyond, after))
      .orderBy('e.seq', direction)
      .limit(query.limit)
      .execute();
    return rows.map((row) => ({
      seq: row.seq,
      id: row.id,
      at: row.at,
      tenantId: row.tenant_id,
      // What is written here is one of ours; whether this one is, its reader compares with the body.
      type: row.type as StoredEvent['type'],
      subjectType: row.subject_type as StoredEvent['subjectType'],
      subjectId: row.subject_id,
      body: row.body,
      leafRandom: row.leaf_random,
      leaf: row.leaf,
      personal: row.sealed,
    }));
  }

  async actsOnKeys({ actorKeyId, types, after, limit }: ActQuery): Promise<readonly ActOnKey[]> {
    const rows = await this.#db
      .selectFrom('events')
      .select(['seq', 'type', 'tenant_id', 'subject_id'])
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
      type: row.type as EventType,
      tenantId: row.tenant_id,
      keyId: row.subject_id,
    }));
  }
}
