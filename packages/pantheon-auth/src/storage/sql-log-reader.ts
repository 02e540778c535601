/** How a node follows the log: the head, and what came after a place. */
import type { Kysely } from 'kysely';
import type { EventType, SubjectType } from '../domain/event.ts';
import type { EventNotice, Head, LogReader } from '../events/ledger.ts';
import { invariant } from '../foundation/errors.ts';
import type { Tables } from './tables.ts';

/** The log has one head; its row is made with the table. */
export const LOG_HEAD_ID = 1;

export class SqlLogReader implements LogReader {
  readonly headNow: (() => Head) | null;
  readonly #db: Kysely<Tables>;

  /** @param headNow reads the head at once, where the driver can. */
  constructor(db: Kysely<Tables>, headNow: (() => Head) | null) {
    this.#db = db;
    this.headNow = headNow;
  }

  async head(): Promise<Head> {
    const head = await this.#db
      .selectFrom('log_head')
      .select(['seq', 'at'])
      .where('id', '=', LOG_HEAD_ID)
      .executeTakeFirst();
    invariant(head !== undefined, 'the log has a head');
    return head;
  }

  async noticesAfter(seq: number, limit: number): Promise<readonly EventNotice[]> {
    const rows = await this.#db
      .selectFrom('events')
      .select(['seq', 'type', 'tenant_id', 'subject_type', 'subject_id'])
      .where('seq', '>', seq)
      .orderBy('seq')
      .limit(limit)
      .execute();
    return rows.map((row) => ({
      seq: row.seq,
      type: row.type as EventType,
      tenantId: row.tenant_id,
      subjectType: row.subject_type as SubjectType,
      subjectId: row.subject_id,
    }));
  }
}
