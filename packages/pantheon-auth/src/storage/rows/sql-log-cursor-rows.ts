/**
 * How far each consumer of the log has got. A cursor lies in the same database as the log and is stored only at an event
 * that is there: a failover or a restore that takes the last events away takes the cursor back as well.
 */
import type { Kysely, Transaction } from 'kysely';
import type { LeaseHeld } from '../../events/ledger.ts';
import { operational } from '../../events/write-lanes.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { LogCursor, LogCursorRows } from '../../log-consumers/log-consumer.ts';
import type { SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';
import { assertLeaseHeld } from './sql-job-lease-rows.ts';

const QUEUE_KEY = operational('log-consumers');

export class SqlLogCursorRows implements LogCursorRows {
  readonly #read: Kysely<Tables>;
  readonly #writer: WriteQueue;
  readonly #dialect: SqlDialect;

  constructor(parts: { readonly read: Kysely<Tables>; readonly writer: WriteQueue; readonly dialect: SqlDialect }) {
    this.#read = parts.read;
    this.#writer = parts.writer;
    this.#dialect = parts.dialect;
  }

  async find(name: string): Promise<LogCursor | null> {
    const cursors = this.#read.selectFrom('log_consumers').where('name', '=', name);
    const row = await cursors.select(['seq', 'event_id']).executeTakeFirst();
    return row === undefined ? null : { seq: row.seq, eventId: row.event_id };
  }

  async insert(name: string, { seq, eventId }: LogCursor, lease: LeaseHeld): Promise<void> {
    await this.#writer.run(QUEUE_KEY, async (transaction) => {
      await assertLeaseHeld(transaction, this.#dialect, lease);
      await assertInLog(transaction, name, { seq, eventId });
      await transaction.insertInto('log_consumers').values({ name, seq, event_id: eventId }).execute();
    });
  }

  async advance(name: string, from: LogCursor, to: LogCursor, lease: LeaseHeld): Promise<void> {
    await this.#writer.run(QUEUE_KEY, async (transaction) => {
      await assertLeaseHeld(transaction, this.#dialect, lease);
      await assertInLog(transaction, name, to);
      const { numUpdatedRows } = await transaction
        .updateTable('log_consumers')
        .set({ seq: to.seq, event_id: to.eventId })
        .where('name', '=', name)
        .where('seq', '=', from.seq)
        .where('event_id', from.eventId === null ? 'is' : '=', from.eventId)
        .executeTakeFirstOrThrow();
      if (numUpdatedRows !== 1n) throw new PantheonError('conflict', { detail: `The cursor of ${name} has moved.` });
    });
  }
}

/**
 * That the database which stores the cursor has the event, in the same transaction: it may have been read from a server
 * that was left since, and never have reached this one.
 */
async function assertInLog(transaction: Transaction<Tables>, name: string, { seq, eventId }: LogCursor): Promise<void> {
  if (eventId === null) return;
  const event = await transaction.selectFrom('events').select('id').where('seq', '=', seq).executeTakeFirst();
  if (event?.id !== eventId)
    throw new PantheonError('conflict', { detail: `The log does not hold event ${seq} as ${name} has read it.` });
}
