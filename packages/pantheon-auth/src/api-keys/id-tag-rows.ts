/** The port for reading tag secrets. Only `Ledger.commit` writes them. Implemented in `storage/rows/`. */
import type { AsStored } from '../schema/as-stored.ts';
import type { IdTagSecretRow } from '../schema/id-tag-secret-row.ts';

/** Which tags the ids of existing keys have. */
export interface IdsInUse {
  /** Whether any key was created before ids had tags, or the row of a key is damaged so that it may have been. */
  readonly hasUntagged: boolean;
  /** The highest number of a tag secret that any key was tagged with; null: none. */
  readonly newestNumber: number | null;
}

export interface IdTagRows {
  /** The newest `limit` tag secrets, newest first. */
  newest(limit: number): Promise<readonly AsStored<IdTagSecretRow>[]>;
  idsInUse(): Promise<IdsInUse>;
}
