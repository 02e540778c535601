/** The port through which tag secrets are read. They are written by `Ledger.commit` alone. Implemented over SQL. */
import type { IdTagSecretRow } from '../schema/id-tag-secret-row.ts';

/** Which ids the keys of the store have. */
export interface IdsInUse {
  /** Whether any key was made before ids had tags. */
  readonly hasUntagged: boolean;
  /** The highest number of a tag secret that any key names; null: none. */
  readonly newestNumber: number | null;
}

export interface IdTagRows {
  /** Tag secrets, the newest first, at most `limit`. */
  newest(limit: number): Promise<readonly IdTagSecretRow[]>;
  idsInUse(): Promise<IdsInUse>;
}
