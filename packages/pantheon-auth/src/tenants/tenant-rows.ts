/** The port for reading tenant rows. Only `Ledger.commit` writes them. Implemented in `storage/rows/`. */
import type { TenantRow } from '../schema/tenant-row.ts';

export interface TenantRows {
  find(id: string): Promise<TenantRow | null>;
  /** Ordered by id, strictly after `after`. */
  list(after: string | null, limit: number): Promise<readonly TenantRow[]>;
}
