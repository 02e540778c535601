/** The port through which key rows are read. They are written by `Ledger.commit` alone. Implemented over SQL. */
import type { ListPart } from '../foundation/list-part.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../schema/api-key-row.ts';
import type { TenantRow } from '../schema/tenant-row.ts';

/** Rows that belong to one key, as read in one query. Versions are newest first. */
export interface KeyRowSet {
  readonly key: ApiKeyRow;
  readonly versions: readonly ApiKeyVersionRow[];
  /** Null: its row is missing, which is damage. */
  readonly tenant: TenantRow | null;
}

/** A place in a list of keys. */
export interface KeyPlace {
  readonly createdAt: number;
  readonly id: string;
}

/** A key that another one created. */
export interface ChildKey extends KeyPlace {
  readonly tenantId: string;
}

export interface KeyListQuery {
  readonly tenantId: string;
  readonly userId: string | null;
  readonly state: 'active' | 'suspended' | 'revoked' | 'expired' | null;
  readonly environment: string | null;
  /** Part of the name, any case, or the start of an id. Taken literally: `%` and `_` are characters. */
  readonly text: string | null;
  /** Strictly after this place in (created_at descending, id descending). */
  readonly after: KeyPlace | null;
  readonly limit: number;
  readonly now: number;
}

export interface KeyRows {
  /** One read, of any tenant: the caller decides what may be seen. */
  find(id: string): Promise<KeyRowSet | null>;
  /** At most `limit`, and fewer where they are large or where few of many match. @throws the reason of `signal`. */
  list(query: KeyListQuery, signal?: AbortSignal): Promise<ListPart<KeyRowSet, KeyPlace>>;
  /** Keys of any tenant that this key created, newest first, at most `limit`. */
  childrenOf(id: string, after: KeyPlace | null, limit: number): Promise<readonly ChildKey[]>;
  /** Keys of the system tenant that can administer as far as their rows tell, the oldest first. */
  administrators(now: number): Promise<readonly string[]>;
}
