/** A row of `signing_keys`. */
export interface SigningKeyRow {
  kid: string;
  tenant_id: string;
  algorithm: string;
  public_jwk: string;
  created_at: number;
  /** Null: it verifies. */
  retired_at: number | null;
  revision: number;
  /** The private key, sealed. */
  sealed: Uint8Array;
}
