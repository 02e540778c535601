/** Which column of which row a sealed value belongs to. It is authenticated with the value (AAD), so that it opens nowhere else. */
export interface EncryptionContext {
  readonly table: string;
  readonly column: string;
  readonly tenantId: string;
  readonly rowId: string;
  /** The key version the row belongs to; 0 where there is none. */
  readonly version: number;
}

/** Seals and opens under the data key of a tenant. The port between what is stored and how it is protected. */
export interface Sealer {
  seal(context: EncryptionContext, plaintext: Uint8Array): Promise<Uint8Array>;
  /** @throws PantheonError `key_quarantined` when the value is not what was sealed in this context. */
  open(context: EncryptionContext, sealed: Uint8Array): Promise<Buffer>;
}
