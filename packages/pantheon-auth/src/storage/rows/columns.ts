/** The columns of the tables that hold access state, as values: what a change may name, and what a read selects. */
import { SETTING_COLUMNS, type SettingColumns } from '../../domain/key-setting-table.ts';
import type { AccessTable, AccessTables, RowKeys } from '../../schema/access-tables.ts';

/** An object instead of a list, so that a missing column does not compile. */
const COLUMNS: { readonly [T in AccessTable]: { readonly [C in keyof AccessTables[T]]: true } } = {
  tenants: { id: true, tenant_id: true, name: true, state: true, created_at: true, revision: true, audiences: true },
  api_keys: {
    id: true,
    tenant_id: true,
    ...columnsOfSettings(),
    state: true,
    state_at: true,
    state_reason: true,
    created_at: true,
    created_by: true,
    tokens_not_before: true,
    jwt_algorithm: true,
    version: true,
    kept_versions: true,
    revision: true,
    sealed: true,
    id_tag: true,
  },
  api_key_versions: {
    key_id: true,
    tenant_id: true,
    version: true,
    created_at: true,
    accepted_until: true,
    retires_on_first_use: true,
    revision: true,
    sealed: true,
  },
  signing_keys: {
    kid: true,
    tenant_id: true,
    algorithm: true,
    public_jwk: true,
    created_at: true,
    signs_from: true,
    retired_at: true,
    revision: true,
    sealed: true,
  },
  token_revocations: { jti: true, tenant_id: true, key_id: true, expires_at: true, revision: true },
  id_tag_secrets: { number: true, tenant_id: true, created_at: true, retired_at: true, revision: true, sealed: true },
  next_secrets: { key_id: true, tenant_id: true, version: true, revision: true, sealed: true },
};

/** The columns that say which row is meant. The first of them alone orders the rows of a table. */
const ROW_KEYS: { readonly [T in AccessTable]: { readonly [C in keyof RowKeys[T]]: true } } = {
  tenants: { id: true },
  api_keys: { id: true, tenant_id: true },
  api_key_versions: { key_id: true, tenant_id: true },
  signing_keys: { kid: true },
  token_revocations: { jti: true },
  id_tag_secrets: { number: true },
  next_secrets: { key_id: true, tenant_id: true },
};

/** The column names of a table. */
export function columnsOf<T extends AccessTable>(table: T): readonly (keyof AccessTables[T] & string)[] {
  return Object.keys(COLUMNS[table]) as (keyof AccessTables[T] & string)[];
}

/** Whether every name is a column of that table: names reach SQL text only after this. */
export function areColumns(table: AccessTable, names: readonly string[]): boolean {
  return names.every((name) => Object.hasOwn(COLUMNS[table], name));
}

/** The names of the columns that say which row of the table is meant. */
export function rowKeyOf(table: AccessTable): readonly [string, ...string[]] {
  return Object.keys(ROW_KEYS[table]) as [string, ...string[]];
}

/** Whether these names say which row is meant: all of its key, and nothing else. */
export function isRowKey(table: AccessTable, names: readonly string[]): boolean {
  return names.length === rowKeyOf(table).length && names.every((name) => Object.hasOwn(ROW_KEYS[table], name));
}

function columnsOfSettings(): { readonly [C in keyof SettingColumns]: true } {
  const names = Object.values(SETTING_COLUMNS).filter((column) => column !== null);
  return Object.fromEntries(names.map((name) => [name, true])) as { readonly [C in keyof SettingColumns]: true };
}
