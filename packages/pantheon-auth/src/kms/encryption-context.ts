/**
 * The column and row that a sealed value belongs to. It is authenticated with the value (AAD), so the value cannot be
 * opened for another row.
 */
export interface EncryptionContext {
  readonly table: string;
  readonly column: string;
  readonly tenantId: string;
  readonly rowId: string;
  /** The key version that the row belongs to; 0: none. */
  readonly version: number;
}

/** The port for sealing and opening values under the data key of a tenant. */
export interface Sealer {
  seal(context: EncryptionContext, plaintext: Uint8Array): Promise<Uint8Array>;
  /** @throws PantheonError `key_quarantined` when the value is not what was sealed in this context. */
  open(context: EncryptionContext, sealed: Uint8Array): Promise<Buffer>;
}
