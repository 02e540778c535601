/**
 * The latest time that a database has seen: of its log, of what was counted, and of the nodes that started and stopped on
 * it. A start compares its clock with it (`events/stored-time.ts`).
 */
import { type Kysely, sql, type Transaction } from 'kysely';
import type { AcceptedTime, DatedKey, StoredTime } from '../../events/stored-time.ts';
import { operational } from '../../events/write-lanes.ts';
import type { Instant } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import { LOG_HEAD_ID } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';

/** Names in `meta`. */
const LATEST = 'latestTime';
const ACCEPTED = 'acceptedTime';
const AHEAD_UNTIL = 'aheadUntil';
/** Rows that one statement looks at: some ten milliseconds of a database, far from where it is given up. */
export const ROWS_AT_ONCE = 10_000;
/** Up to the year 275760, the last that a `Date` can say. */
const INSTANT_MAX = 8_640_000_000_000_000;

export class SqlStoredTime implements StoredTime {
  readonly #db: Kysely<Tables>;
  readonly #scan: Kysely<Tables>;
  readonly #writer: WriteQueue;

  constructor(db: { readonly read: Kysely<Tables>; readonly scan: Kysely<Tables> }, writer: WriteQueue) {
    this.#db = db.read;
    this.#scan = db.scan;
    this.#writer = writer;
  }

  async latest(): Promise<Instant> {
    const [head, batches, recorded] = await Promise.all([
      this.#db.selectFrom('log_head').select('at').where('id', '=', LOG_HEAD_ID).executeTakeFirst(),
      this.#db
        .selectFrom('usage_batches')
        .select((eb) => eb.fn.max('at').as('at'))
        .executeTakeFirst(),
      this.#meta(LATEST),
    ]);
    const seen = [head?.at ?? 0, batches?.at ?? 0, recorded === null ? 0 : parseInstant(recorded)];
    return Math.min(INSTANT_MAX, Math.max(...seen));
  }

  async record(at: Instant, aheadUntil: Instant | null = null): Promise<void> {
    const latest = { name: LATEST, value: String(at) };
    const values = aheadUntil === null ? [latest] : [latest, { name: AHEAD_UNTIL, value: String(aheadUntil) }];
    await this.#writer.run(operational('time'), async (transaction) => {
      await transaction
        .insertInto('meta')
        .values(values)
        .onConflict((conflict) =>
          conflict
            .column('name')
            .doUpdateSet((eb) => ({ value: eb.ref('excluded.value') }))
            .where(sql<boolean>`cast(meta.value as bigint) < cast(excluded.value as bigint)`),
        )
        .execute();
    });
  }

  async aheadUntil(): Promise<Instant> {
    const value = await this.#meta(AHEAD_UNTIL);
    return value === null ? 0 : parseInstant(value);
  }

  async accepted(): Promise<AcceptedTime | null> {
    const value = await this.#meta(ACCEPTED);
    const [at = '', eventId = ''] = value?.split(' ') ?? [];
    return value === null ? null : { at: parseInstant(at), eventId };
  }

  async *keysChangedAfter(at: Instant): AsyncGenerator<readonly DatedKey[]> {
    const head = await this.#db.selectFrom('log_head').select('seq').where('id', '=', LOG_HEAD_ID).executeTakeFirst();
    // `seq` has no gaps, so a range of it has a bounded number of events.
    for (let from = 1; from <= (head?.seq ?? 0); from += ROWS_AT_ONCE) {
      const rows = await this.#scan
        .selectFrom('events')
        .select(['subject_id', 'tenant_id'])
        .distinct()
        .where('seq', '>=', from)
        .where('seq', '<', from + ROWS_AT_ONCE)
        .where('subject_type', '=', 'key')
        .where('at', '>', at)
        .execute();
      yield rows.map((row) => ({ keyId: row.subject_id, tenantId: row.tenant_id }));
    }
  }

  async bringBackUses(at: Instant): Promise<void> {
    for (let after = ''; ; ) {
      const last = await this.#scan
        .selectFrom('version_usage')
        .select('key_id')
        .where('key_id', '>', after)
        .orderBy('key_id')
        .offset(ROWS_AT_ONCE - 1)
        .limit(1)
        .executeTakeFirst();
      await this.#writer.run(operational('time'), async (transaction) => {
        const late = transaction.updateTable('version_usage').set({ last_used_at: at }).where('last_used_at', '>', at);
        const range = late.where('key_id', '>', after);
        await (last === undefined ? range : range.where('key_id', '<=', last.key_id)).execute();
      });
      if (last === undefined) return;
      after = last.key_id;
    }
  }

  async #meta(name: string): Promise<string | null> {
    const row = await this.#db.selectFrom('meta').select('value').where('name', '=', name).executeTakeFirst();
    return row?.value ?? null;
  }
}

/** The head forgets what lies after it, and so does what else would be taken for the latest time or be kept too long. */
export async function resetStoredTime(transaction: Transaction<Tables>, { at, eventId }: AcceptedTime): Promise<void> {
  await transaction.updateTable('log_head').set({ at }).where('id', '=', LOG_HEAD_ID).execute();
  const values = [
    { name: LATEST, value: String(at) },
    { name: ACCEPTED, value: `${at} ${eventId}` },
  ];
  await transaction
    .insertInto('meta')
    .values(values)
    .onConflict((conflict) => conflict.column('name').doUpdateSet((eb) => ({ value: eb.ref('excluded.value') })))
    .execute();
  await transaction.deleteFrom('meta').where('name', '=', AHEAD_UNTIL).execute();
  await transaction.deleteFrom('usage_batches').where('at', '>', at).execute();
  await transaction.updateTable('idempotency').set({ created_at: at }).where('created_at', '>', at).execute();
  // So that it is replaced by its age, counted from now.
  await transaction.updateTable('data_keys').set({ created_at: at }).where('created_at', '>', at).execute();
}

function parseInstant(text: string): Instant {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= INSTANT_MAX) return value;
  throw new PantheonError('store_unusable', { detail: 'What the database has recorded of the time is damaged.' });
}
