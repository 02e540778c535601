/** Tenant rows, read. */
import type { Kysely } from 'kysely';
import type { Lane } from '../../events/write-lanes.ts';
import type { AsStored } from '../../schema/as-stored.ts';
import type { TenantRow } from '../../schema/tenant-row.ts';
import type { TenantRows } from '../../tenants/tenant-rows.ts';
import { type StoredTables, withDamagedRows } from '../damaged-integers.ts';
import type { Tables } from '../tables.ts';

export class SqlTenantRows implements TenantRows {
  readonly #reads: Readonly<Record<Lane, Kysely<StoredTables>>>;
  readonly #scan: Kysely<StoredTables>;

  constructor(db: {
    readonly read: Kysely<Tables>;
    readonly scan: Kysely<Tables>;
    readonly protectiveRead: Kysely<Tables>;
  }) {
    this.#reads = { ordinary: withDamagedRows(db.read), protective: withDamagedRows(db.protectiveRead) };
    this.#scan = withDamagedRows(db.scan);
  }

  async find(id: string, lane: Lane = 'ordinary'): Promise<AsStored<TenantRow> | null> {
    const row = await this.#reads[lane].selectFrom('tenants').selectAll().where('id', '=', id).executeTakeFirst();
    return row === undefined ? null : { ...row };
  }

  async list(after: string | null, limit: number): Promise<readonly AsStored<TenantRow>[]> {
    const rows = await this.#scan
      .selectFrom('tenants')
      .selectAll()
      .where('id', '>', after ?? '')
      .orderBy('id')
      .limit(limit)
      .execute();
    return rows.map((row) => ({ ...row }));
  }
}
