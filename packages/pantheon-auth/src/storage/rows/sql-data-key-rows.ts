/** Wrapped data keys: one that seals for each tenant, and those that still open. */
import type { Kysely } from 'kysely';
import { sealing } from '../../events/write-lanes.ts';
import { invariant } from '../../foundation/errors.ts';
import type { DataKeyRows, StoredDataKey } from '../../kms/key-encryption.ts';
import type { DataKeyRow, Tables } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';

export class SqlDataKeyRows implements DataKeyRows {
  readonly #db: Kysely<Tables>;
  readonly #writer: WriteQueue;

  constructor(db: Kysely<Tables>, writer: WriteQueue) {
    this.#db = db;
    this.#writer = writer;
  }

  async active(tenantId: string): Promise<StoredDataKey | null> {
    const row = await activeOf(this.#db, tenantId).executeTakeFirst();
    return row === undefined ? null : fromRow(row);
  }

  async byId(id: string): Promise<StoredDataKey | null> {
    const row = await this.#db.selectFrom('data_keys').selectAll().where('id', '=', id).executeTakeFirst();
    return row === undefined ? null : fromRow(row);
  }

  async add(key: StoredDataKey, replaces: string | null): Promise<StoredDataKey> {
    return this.#writer.run(sealing(key.tenantId), async (transaction) => {
      if (replaces !== null) {
        await transaction
          .updateTable('data_keys')
          .set({ retired_at: key.createdAt })
          .where('id', '=', replaces)
          .where('tenant_id', '=', key.tenantId)
          .where('retired_at', 'is', null)
          .execute();
      }
      // A tenant has one active key (an index holds that), so this does nothing when someone else was first.
      await transaction
        .insertInto('data_keys')
        .values({
          id: key.id,
          tenant_id: key.tenantId,
          wrapped: key.wrapped,
          created_at: key.createdAt,
          retired_at: key.retiredAt,
          seals: key.seals,
        })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      const stored = await activeOf(transaction, key.tenantId).executeTakeFirst();
      invariant(stored !== undefined, 'a tenant has an active data key once one was added');
      return fromRow(stored);
    });
  }

  async takeSeals(id: string, count: number): Promise<number> {
    return this.#writer.run(sealing(null), async (transaction) => {
      const row = await transaction
        .updateTable('data_keys')
        .set((eb) => ({ seals: eb('seals', '+', count) }))
        .where('id', '=', id)
        .returning('seals')
        .executeTakeFirst();
      invariant(row !== undefined, 'seals are taken of a data key that is stored');
      return row.seals;
    });
  }
}

function activeOf(db: Kysely<Tables>, tenantId: string) {
  return db.selectFrom('data_keys').selectAll().where('tenant_id', '=', tenantId).where('retired_at', 'is', null);
}

function fromRow(row: DataKeyRow): StoredDataKey {
  return {
    id: row.id,
    tenantId: row.tenant_id,
    wrapped: row.wrapped,
    createdAt: row.created_at,
    retiredAt: row.retired_at,
    seals: row.seals,
  };
}
