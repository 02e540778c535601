/** The port to whatever holds the master key: a file, or a key management service. It only ever sees data keys. */

/** What a wrapped data key is bound to. */
export interface WrapContext {
  readonly dataKeyId: string;
  readonly tenantId: string;
}

export interface KeyEncryption {
  wrap(dataKey: Uint8Array, context: WrapContext): Promise<Uint8Array>;
  /** @throws PantheonError `master_key_mismatch` when it was wrapped by another master key or for another context. */
  unwrap(wrapped: Uint8Array, context: WrapContext): Promise<Buffer>;
}

/** Where wrapped data keys lie. Implemented over SQL. */
export interface DataKeyRows {
  /** The one that seals for this tenant now, or null. */
  active(tenantId: string): Promise<StoredDataKey | null>;
  byId(id: string): Promise<StoredDataKey | null>;
  /** Adds it and retires the tenant's other ones; when another node was first, that one stays and is returned. */
  add(key: StoredDataKey, replaces: string | null): Promise<StoredDataKey>;
  /** Hands out `count` seals; answers how many were handed out in all. */
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
