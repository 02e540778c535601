/** Tenant rows, read. */
import type { Kysely } from 'kysely';
import type { Lane } from '../../events/write-lanes.ts';
import type { TenantRow } from '../../schema/tenant-row.ts';
import type { TenantRows } from '../../tenants/tenant-rows.ts';
import type { Tables } from '../tables.ts';

export class SqlTenantRows implements TenantRows {
  readonly #reads: Readonly<Record<Lane, Kysely<Tables>>>;
  readonly #scan: Kysely<Tables>;

  constructor(db: {
    readonly read: Kysely<Tables>;
    readonly scan: Kysely<Tables>;
    readonly protectiveRead: Kysely<Tables>;
  }) {
    this.#reads = { ordinary: db.read, protective: db.protectiveRead };
    this.#scan = db.scan;
  }

  async find(id: string, lane: Lane = 'ordinary'): Promise<TenantRow | null> {
    const row = await this.#reads[lane].selectFrom('tenants').selectAll().where('id', '=', id).executeTakeFirst();
    return row === undefined ? null : { ...row };
  }

  async list(after: string | null, limit: number): Promise<readonly TenantRow[]> {
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
