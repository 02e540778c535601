/** A row of `idempotency`. Operational state, but written by `Ledger.commit` in the transaction of the change. */
export interface IdempotencyRow {
  tenant_id: string;
  /** The caller's key id, or `process`. */
  caller: string;
  /** SHA-256 of the Idempotency-Key. */
  idempotency_key: string;
  /** SHA-256 of the operation and its canonical body. */
  request_hash: string;
  key_id: string;
  version: number;
  created_at: number;
}
