/** What the store knows of a key, as verification needs it. How it lies there is `api-keys/key-storage.ts`. */
import type { KeyRecord } from '../domain/key.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import type { PantheonError } from '../foundation/errors.ts';

/** What proves one version. Lives only in memory that verifies; sealed in the store; in no wire schema. */
export interface VersionSecret {
  readonly version: number;
  /** SHA-256 of the key string. */
  readonly keyHash: Buffer;
  /** Only where the key's policy asks for HS256. */
  readonly signing: { readonly kid: string; readonly secret: Buffer } | null;
}

export interface StoredKey {
  readonly record: KeyRecord;
  readonly tenant: TenantRecord;
  readonly secrets: readonly VersionSecret[];
}

/** A key whose rows do not open, as verification sees it. */
export interface DamagedKey {
  readonly error: PantheonError;
  /** The secrets of all its versions, where those open: then it can be told who holds one. Null: nobody can be told apart. */
  readonly secrets: readonly VersionSecret[] | null;
}

/** Where keys are read from that are not in memory. */
export interface KeySource {
  /** One read, of any tenant. Null: no key has this id. @throws PantheonError `store_unavailable`. */
  findToVerify(id: string): Promise<StoredKey | DamagedKey | null>;
}
