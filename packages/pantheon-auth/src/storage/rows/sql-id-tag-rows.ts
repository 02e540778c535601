/** Tag secrets, and which of them the ids of keys were made with, read. */
import type { Kysely } from 'kysely';
import type { IdsInUse, IdTagRows } from '../../api-keys/id-tag-rows.ts';
import type { AsStored } from '../../schema/as-stored.ts';
import type { IdTagSecretRow } from '../../schema/id-tag-secret-row.ts';
import { type StoredTables, withDamagedRows } from '../damaged-integers.ts';
import type { Tables } from '../tables.ts';

export class SqlIdTagRows implements IdTagRows {
  readonly #db: Kysely<StoredTables>;

  constructor(db: Kysely<Tables>) {
    this.#db = withDamagedRows(db);
  }

  async newest(limit: number): Promise<readonly AsStored<IdTagSecretRow>[]> {
    const rows = await this.#db
      .selectFrom('id_tag_secrets')
      .selectAll()
      .orderBy('number', 'desc')
      .limit(limit)
      .execute();
    return rows.map((row) => ({ ...row }));
  }

  /** Each is one step into an index, whatever the number of keys. */
  async idsInUse(): Promise<IdsInUse> {
    const keys = this.#db.selectFrom('api_keys').select('id_tag').limit(1);
    const untagged = await keys.where('id_tag', 'is', null).executeTakeFirst();
    const newest = await keys.where('id_tag', 'is not', null).orderBy('id_tag', 'desc').executeTakeFirst();
    const number = newest?.id_tag ?? null;
    if (typeof number === 'bigint') return { hasUntagged: true, newestNumber: null };
    return { hasUntagged: untagged !== undefined, newestNumber: number };
  }
}
