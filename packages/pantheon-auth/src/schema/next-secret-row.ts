/** A row of `next_secrets`: the next key string of a key that the service rotated, encrypted to its recipient. */
export interface NextSecretRow {
  key_id: string;
  tenant_id: string;
  /** The version that it belongs to: the current one. */
  version: number;
  revision: number;
  /** The JWE and the hash over this row, sealed, so that nobody can put another one in its place. */
  sealed: Uint8Array;
}
