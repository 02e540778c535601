/**
 * The port to the holder of the master key: this process, or a key management service. It wraps and unwraps data keys
 * only.
 */

/** The context that a wrapped data key is bound to. */
export interface WrapContext {
  readonly dataKeyId: string;
  readonly tenantId: string;
}

export interface KeyEncryption {
  wrap(dataKey: Uint8Array, context: WrapContext): Promise<Uint8Array>;
  /** @throws PantheonError `master_key_mismatch` when it was wrapped by another master key or for another context. */
  unwrap(wrapped: Uint8Array, context: WrapContext): Promise<Buffer>;
}

/** The port for stored data keys. Implemented in `storage/rows/`. */
export interface DataKeyRows {
  /** The active data key of this tenant, or null. */
  active(tenantId: string): Promise<StoredDataKey | null>;
  byId(id: string): Promise<StoredDataKey | null>;
  /** Adds a data key and retires the tenant's others. If another node was first, returns its data key instead. */
  add(key: StoredDataKey, replaces: string | null): Promise<StoredDataKey>;
  /** Counts `count` seals; returns the total count. */
  takeSeals(id: string, count: number): Promise<number>;
}

export interface StoredDataKey {
  readonly id: string;
  readonly tenantId: string;
  readonly wrapped: Uint8Array;
  readonly createdAt: number;
  readonly retiredAt: number | null;
  readonly seals: number;
}
