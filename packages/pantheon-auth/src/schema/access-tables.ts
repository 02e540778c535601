/**
 * The tables of access state. Only `Ledger.commit` writes them. Their row types are used by the features, which build
 * and read rows, and by `storage/`, which builds SQL, so that a misspelt column does not compile. Times are
 * milliseconds since 1970, lists and objects are JSON text. Every row carries the tenant and a revision.
 */
import type { ApiKeyRow, ApiKeyVersionRow } from './api-key-row.ts';
import type { IdTagSecretRow } from './id-tag-secret-row.ts';
import type { NextSecretRow } from './next-secret-row.ts';
import type { SigningKeyRow } from './signing-key-row.ts';
import type { TenantRow } from './tenant-row.ts';
import type { TokenRevocationRow } from './token-revocation-row.ts';

export interface AccessTables {
  tenants: TenantRow;
  api_keys: ApiKeyRow;
  api_key_versions: ApiKeyVersionRow;
  signing_keys: SigningKeyRow;
  token_revocations: TokenRevocationRow;
  id_tag_secrets: IdTagSecretRow;
  next_secrets: NextSecretRow;
}

export type AccessTable = keyof AccessTables;

/** The key columns of a row. Of versions: those of the key, because all versions of a key are written together. */
export interface RowKeys {
  tenants: Pick<TenantRow, 'id'>;
  api_keys: Pick<ApiKeyRow, 'id' | 'tenant_id'>;
  api_key_versions: Pick<ApiKeyVersionRow, 'key_id' | 'tenant_id'>;
  signing_keys: Pick<SigningKeyRow, 'kid'>;
  token_revocations: Pick<TokenRevocationRow, 'jti'>;
  id_tag_secrets: Pick<IdTagSecretRow, 'number'>;
  next_secrets: Pick<NextSecretRow, 'key_id' | 'tenant_id'>;
}

/** A value that every supported database stores unchanged. */
export type Cell = string | number | Uint8Array | null;
