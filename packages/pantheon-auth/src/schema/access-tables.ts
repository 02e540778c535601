/**
 * The tables of access state: those that can change a verdict. `Ledger.commit` alone writes them. Their row types lie
 * below the features, which make and read rows, and below `storage/`, which makes SQL of them: a column that one of the
 * two misspells does not compile. Times are milliseconds since 1970, lists and objects are JSON text. Every row carries
 * the tenant and a revision.
 */
import type { ApiKeyRow, ApiKeyVersionRow } from './api-key-row.ts';
import type { IdTagSecretRow } from './id-tag-secret-row.ts';
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
}

export type AccessTable = keyof AccessTables;

/** The columns that say which row is meant. Of versions: all of one key, which are written anew together. */
export interface RowKeys {
  tenants: Pick<TenantRow, 'id'>;
  api_keys: Pick<ApiKeyRow, 'id' | 'tenant_id'>;
  api_key_versions: Pick<ApiKeyVersionRow, 'key_id' | 'tenant_id'>;
  signing_keys: Pick<SigningKeyRow, 'kid'>;
  token_revocations: Pick<TokenRevocationRow, 'jti'>;
  id_tag_secrets: Pick<IdTagSecretRow, 'number'>;
}

/** A value that every database of ours stores as it is. */
export type Cell = string | number | Uint8Array | null;
