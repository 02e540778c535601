/** A row of `token_revocations`: a token that was revoked alone. */
export interface TokenRevocationRow {
  jti: string;
  tenant_id: string;
  key_id: string;
  expires_at: number;
  revision: number;
}
