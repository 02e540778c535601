/** The port through which tenant rows are read. They are written by `Ledger.commit` alone. Implemented over SQL. */
import type { TenantRow } from '../schema/tenant-row.ts';

export interface TenantRows {
  find(id: string): Promise<TenantRow | null>;
  /** In order of id, strictly after `after`. */
  list(after: string | null, limit: number): Promise<readonly TenantRow[]>;
}
