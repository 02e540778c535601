/** A row of `id_tag_secrets`. */
export interface IdTagSecretRow {
  /** 1, 2, 3… without a gap. Never given twice. */
  number: number;
  tenant_id: string;
  created_at: number;
  retired_at: number | null;
  revision: number;
  sealed: Uint8Array;
}
