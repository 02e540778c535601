/**
 * A key as read from the database, as far as verification needs it. The storage format is in `api-keys/key-storage.ts`.
 */
import type { KeyRecord } from '../domain/key.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import type { PantheonError } from '../foundation/errors.ts';

/** The hash and HS256 secret of one version. Only in memory and sealed in the database; in no answer. */
export interface VersionSecret {
  readonly version: number;
  /** SHA-256 of the key string. */
  readonly keyHash: Buffer;
  /** Set only if the key's policy uses HS256. */
  readonly signing: { readonly kid: string; readonly secret: Buffer } | null;
}

export interface StoredKey {
  readonly record: KeyRecord;
  readonly tenant: TenantRecord;
  readonly secrets: readonly VersionSecret[];
}

/** A damaged key: one whose rows cannot be opened or do not match. */
export interface DamagedKey {
  readonly error: PantheonError;
  /** The secrets of all its versions, if they can be opened, to tell holders from other callers. Null: they cannot. */
  readonly secrets: readonly VersionSecret[] | null;
}

/** The source of keys that are not in memory. */
export interface KeySource {
  /** Reads a key of any tenant. Null: no key has this id. @throws PantheonError `store_unavailable`. */
  findToVerify(id: string): Promise<StoredKey | DamagedKey | null>;
}
