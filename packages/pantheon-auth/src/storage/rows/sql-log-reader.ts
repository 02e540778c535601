/** How a node follows the log: the head, and what came after a place. */
import type { Kysely } from 'kysely';
import type { EventType, SubjectType } from '../../domain/event.ts';
import type { EventNotice, Head, LogReader } from '../../events/ledger.ts';
import { invariant } from '../../foundation/errors.ts';
import { LOG_HEAD_ID, type SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';

export class SqlLogReader implements LogReader {
  readonly headSync: (() => Head) | null;
  readonly onNotify: ((listener: () => void) => void) | null;
  readonly #db: Kysely<Tables>;
  readonly #dialect: SqlDialect;

  constructor(
    db: Kysely<Tables>,
    dialect: SqlDialect,
    /** `headSync` reads the head at once, where the driver can; `onNotify` says when it may have moved, where it can. */
    options: { readonly headSync?: () => Head; readonly onNotify?: (listener: () => void) => void },
  ) {
    this.#db = db;
    this.#dialect = dialect;
    this.headSync = options.headSync ?? null;
    this.onNotify = options.onNotify ?? null;
  }

  async head(): Promise<Head> {
    const head = await this.#db
      .selectFrom('log_head as h')
      .leftJoin('events as e', 'e.seq', 'h.seq')
      .select(['h.seq', 'h.at', 'e.id as eventId'])
      .select([this.#dialect.serverNow.as('server'), this.#dialect.storeNow.as('storeNow')])
      .where('h.id', '=', LOG_HEAD_ID)
      .executeTakeFirst();
    invariant(head !== undefined, 'the log has a head');
    return head;
  }

  async noticesFrom(seq: number, limit: number): Promise<readonly EventNotice[]> {
    const rows = await this.#db
      .selectFrom('events')
      .select(['seq', 'id', 'type', 'tenant_id', 'subject_type', 'subject_id'])
      .where('seq', '>=', seq)
      .orderBy('seq')
      .limit(limit)
      .execute();
    return rows.map((row) => ({
      seq: row.seq,
      id: row.id,
      type: row.type as EventType,
      tenantId: row.tenant_id,
      subjectType: row.subject_type as SubjectType,
      subjectId: row.subject_id,
    }));
  }
}
