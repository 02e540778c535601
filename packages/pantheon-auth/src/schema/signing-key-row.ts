/** A row of `signing_keys`. */
export interface SigningKeyRow {
  kid: string;
  tenant_id: string;
  algorithm: string;
  public_jwk: string;
  created_at: number;
  /** From when on it signs, unless a later one does. Null: it is published and waits. */
  signs_from: number | null;
  /** Null: it verifies. */
  retired_at: number | null;
  revision: number;
  /** The private key, sealed. */
  sealed: Uint8Array;
}
