/** Requests that were answered, so that a repeated one is not carried out twice. */
import type { Kysely, Transaction } from 'kysely';
import type { AnsweredRequest, IdempotencyRows } from '../../commands/idempotency-rows.ts';
import { ANSWER_KEPT_MS } from '../../commands/idempotency-service.ts';
import { operational } from '../../events/write-lanes.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { IdempotencyRow } from '../../schema/idempotency-row.ts';
import type { Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';

/**
 * Written by the ledger, in the transaction of what was answered. Of two equal requests at the same time the second
 * fails here, and what it did with it.
 *
 * @throws PantheonError `conflict`
 */
export async function rememberAnswer(transaction: Transaction<Tables>, row: Readonly<IdempotencyRow>): Promise<void> {
  const { numInsertedOrUpdatedRows } = await transaction
    .insertInto('idempotency')
    .values(row)
    .onConflict((conflict) =>
      conflict
        .columns(['tenant_id', 'caller', 'idempotency_key'])
        .doUpdateSet((eb) => ({
          request_hash: eb.ref('excluded.request_hash'),
          key_id: eb.ref('excluded.key_id'),
          version: eb.ref('excluded.version'),
          created_at: eb.ref('excluded.created_at'),
        }))
        // An answer that no longer counts may be there still, until it is pruned, and gives way.
        .where('idempotency.created_at', '<', row.created_at - ANSWER_KEPT_MS),
    )
    .executeTakeFirstOrThrow();
  if (numInsertedOrUpdatedRows !== 1n) throw new PantheonError('conflict', { detail: 'This request was answered.' });
}

export class SqlIdempotencyRows implements IdempotencyRows {
  readonly #db: Kysely<Tables>;
  readonly #writer: WriteQueue;

  constructor(db: Kysely<Tables>, writer: WriteQueue) {
    this.#db = db;
    this.#writer = writer;
  }

  async find(
    request: Pick<AnsweredRequest, 'tenantId' | 'caller' | 'idempotencyKey'>,
    since: number,
  ): Promise<AnsweredRequest | null> {
    const row = await this.#db
      .selectFrom('idempotency')
      .selectAll()
      .where('tenant_id', '=', request.tenantId)
      .where('caller', '=', request.caller)
      .where('idempotency_key', '=', request.idempotencyKey)
      .where('created_at', '>=', since)
      .executeTakeFirst();
    if (row === undefined) return null;
    return {
      tenantId: row.tenant_id,
      caller: row.caller,
      idempotencyKey: row.idempotency_key,
      requestHash: row.request_hash,
      keyId: row.key_id,
      version: row.version,
      createdAt: row.created_at,
    };
  }

  async prune(before: number, limit: number): Promise<number> {
    return this.#writer.run(operational('answers'), async (transaction) => {
      const { numDeletedRows } = await transaction
        .deleteFrom('idempotency')
        .where(({ eb, refTuple, selectFrom }) =>
          eb(
            refTuple('tenant_id', 'caller', 'idempotency_key'),
            'in',
            selectFrom('idempotency')
              .select(['tenant_id', 'caller', 'idempotency_key'])
              .where('created_at', '<', before)
              .orderBy('created_at')
              .limit(limit)
              .$asTuple('tenant_id', 'caller', 'idempotency_key'),
          ),
        )
        .executeTakeFirstOrThrow();
      return Number(numDeletedRows);
    });
  }
}
