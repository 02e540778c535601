/** The port for reading key rows. Only `Ledger.commit` writes them. Implemented in `storage/rows/`. */
import type { Lane } from '../events/write-lanes.ts';
import type { ListPart } from '../foundation/list-part.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../schema/api-key-row.ts';
import type { AsStored } from '../schema/as-stored.ts';
import type { TenantRow } from '../schema/tenant-row.ts';

/** The rows of one key, read in one query. Versions are newest first. */
export interface KeyRowSet {
  readonly key: AsStored<ApiKeyRow>;
  readonly versions: readonly AsStored<ApiKeyVersionRow>[];
  /** Null: the row of the tenant is missing, so the key is damaged. */
  readonly tenant: AsStored<TenantRow> | null;
}

/** A position in a list of keys. */
export interface KeyPlace {
  /** A damaged number is a decimal string, which JSON can hold. */
  readonly createdAt: number | string;
  readonly id: string;
}

/** A key that another key created. */
export interface ChildKey extends KeyPlace {
  readonly tenantId: string;
}

export interface KeyListQuery {
  readonly tenantId: string;
  readonly userId: string | null;
  readonly state: 'active' | 'suspended' | 'revoked' | 'expired' | null;
  readonly environment: string | null;
  /** Part of the name, in any case, or the beginning of an id. `%` and `_` have no special meaning. */
  readonly text: string | null;
  /** Strictly after this position in (created_at descending, id descending). */
  readonly after: KeyPlace | null;
  readonly limit: number;
  readonly now: number;
}

export interface KeyRows {
  /** Reads a key of any tenant. The caller decides who may see it. `lane` is the lane of the command that reads it. */
  find(id: string, lane?: Lane): Promise<KeyRowSet | null>;
  /** At most `limit` keys; fewer if they are large, or if few of many keys match. @throws the reason of `signal`. */
  list(query: KeyListQuery, signal?: AbortSignal): Promise<ListPart<KeyRowSet, KeyPlace>>;
  /** Keys of any tenant that this key created, newest first, at most `limit`. */
  childrenOf(id: string, after: KeyPlace | null, limit: number): Promise<readonly ChildKey[]>;
  /** Ids of keys of the system tenant that are administrators according to their rows, oldest first. */
  administrators(now: number): Promise<readonly string[]>;
}
