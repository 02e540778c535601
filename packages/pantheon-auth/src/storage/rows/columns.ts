/** The columns of the tables that hold access state, as values: what a change may name, and what a read selects. */
import type { AccessTables } from '../tables.ts';

/** An object instead of a list, so that a missing column does not compile. */
const COLUMNS: { readonly [T in keyof AccessTables]: { readonly [C in keyof AccessTables[T]]: true } } = {
  tenants: { id: true, tenant_id: true, name: true, state: true, created_at: true, revision: true, audiences: true },
  api_keys: {
    id: true,
    tenant_id: true,
    user_id: true,
    name: true,
    description: true,
    environment: true,
    permissions: true,
    grantable: true,
    state: true,
    state_at: true,
    state_reason: true,
    created_at: true,
    created_by: true,
    not_before: true,
    expires_at: true,
    tokens_not_before: true,
    rate_limits: true,
    quota: true,
    ip_allowlist: true,
    rotation: true,
    jwt_algorithm: true,
    version: true,
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
    revision: true,
    sealed: true,
  },
  signing_keys: {
    kid: true,
    tenant_id: true,
    algorithm: true,
    public_jwk: true,
    created_at: true,
    retired_at: true,
    revision: true,
    sealed: true,
  },
  token_revocations: { jti: true, tenant_id: true, key_id: true, expires_at: true, revision: true },
  id_tag_secrets: { number: true, tenant_id: true, created_at: true, retired_at: true, revision: true, sealed: true },
};

/** The column names of a table, in order. */
export function columnsOf<T extends keyof AccessTables>(table: T): readonly (keyof AccessTables[T] & string)[] {
  return Object.keys(COLUMNS[table]) as (keyof AccessTables[T] & string)[];
}

/** Whether every name is a column of that table: names reach SQL text only after this. */
export function areColumns(table: keyof AccessTables, names: readonly string[]): boolean {
  return names.every((name) => Object.hasOwn(COLUMNS[table], name));
}
