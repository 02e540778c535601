/** The port for reading tenant rows. Only `Ledger.commit` writes them. Implemented in `storage/rows/`. */
import type { Lane } from '../events/write-lanes.ts';
import type { AsStored } from '../schema/as-stored.ts';
import type { TenantRow } from '../schema/tenant-row.ts';

export interface TenantRows {
  /** `lane` is the lane of the command that reads it. */
  find(id: string, lane?: Lane): Promise<AsStored<TenantRow> | null>;
  /** Ordered by id, strictly after `after`. */
  list(after: string | null, limit: number): Promise<readonly AsStored<TenantRow>[]>;
}
