/** The next secrets of keys that the service rotated, read. Only the ledger writes them. */
import type { Kysely } from 'kysely';
import type { NextSecretRows } from '../../api-keys/next-secrets.ts';
import type { NextSecretRow } from '../../schema/next-secret-row.ts';
import type { Tables } from '../tables.ts';

export class SqlNextSecretRows implements NextSecretRows {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async find(tenantId: string, keyId: string): Promise<NextSecretRow | null> {
    const secrets = this.#db.selectFrom('next_secrets').selectAll().where('key_id', '=', keyId);
    const row = await secrets.where('tenant_id', '=', tenantId).executeTakeFirst();
    return row === undefined ? null : { ...row };
  }
}
