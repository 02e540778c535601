/** The port through which tenant rows are read. They are written by `Ledger.commit` alone. Implemented over SQL. */
import type { Row } from '../events/ledger.ts';

export interface TenantRows {
  find(id: string): Promise<Row | null>;
  /** In order of id, strictly after `after`. */
  list(after: string | null, limit: number): Promise<readonly Row[]>;
}
