/** The rows of a key: one of `api_keys`, and one of `api_key_versions` for each version that is kept. */
import type { SettingColumns } from '../domain/key-setting-table.ts';

/** Its settings have the columns that `domain/key-setting-table.ts` names. */
export interface ApiKeyRow extends SettingColumns {
  id: string;
  tenant_id: string;
  state: string;
  state_at: number | null;
  state_reason: string | null;
  created_at: number;
  created_by: string | null;
  tokens_not_before: number | null;
  /** Of the setting `jwt`, which is sealed. */
  jwt_algorithm: string | null;
  version: number;
  /** The numbers of its versions, newest first, as JSON; null: the current one and those before it, without a gap. */
  kept_versions: string | null;
  revision: number;
  /** The settings that have no column and the hash over this row, sealed. */
  sealed: Uint8Array;
  /** The number of the secret that tagged its id; null: made before ids had tags. */
  id_tag: number | null;
}

export interface ApiKeyVersionRow {
  key_id: string;
  tenant_id: string;
  version: number;
  created_at: number;
  /** Null: the current version. */
  accepted_until: number | null;
  /** 1: it ends when the current version is used. */
  retires_on_first_use: number | null;
  revision: number;
  /** The hash of the key string and, where the policy asks for HS256, the signing secret; sealed. */
  sealed: Uint8Array;
}
