/** The record of an API key, and a change of it. How events change a record is in `key.ts`. */
import type { Instant } from '../foundation/clock.ts';
import type { AuditEventAbout } from './event.ts';
import type { KeySettings } from './key-settings.ts';

export type KeyState =
  | { readonly kind: 'active' }
  | { readonly kind: 'suspended'; readonly at: Instant; readonly reason: string | null }
  | { readonly kind: 'revoked'; readonly at: Instant; readonly reason: string | null };

/** One secret of an API key. */
export interface KeyVersion {
  readonly version: number;
  readonly createdAt: Instant;
  /** Null: the current version. Otherwise the time at which the version ends. */
  readonly acceptedUntil: Instant | null;
  /** This version ends within seconds of the first use of the current version. */
  readonly retiresOnFirstUse?: true;
}

/** The record of an API key, as the log tells it. Usage is counted elsewhere and joined when read. */
export interface KeyRecord extends KeySettings {
  readonly id: string;
  readonly tenantId: string;
  readonly createdAt: Instant;
  /** The API key that created it; null: the process itself. */
  readonly createdBy: string | null;
  readonly state: KeyState;
  /** Tokens issued before this time are refused. */
  readonly tokensNotBefore: Instant | null;
  /** The number of the current version. After a rollback it is not the newest. */
  readonly version: number;
  /** Newest first, at most {@link VERSIONS_KEPT_MAX}. */
  readonly versions: readonly KeyVersion[];
  readonly revision: number;
  /** The number of the secret that tagged its id; null: made before ids had tags. */
  readonly idTag: number | null;
}

export type KeyEvent = AuditEventAbout<'key'>;

/** A change that is ready to be committed: the new record and its events. The type requires at least one event. */
export interface KeyChange {
  readonly record: KeyRecord;
  /** Null: the key must not exist yet. */
  readonly expectedRevision: number | null;
  readonly events: readonly [KeyEvent, ...KeyEvent[]];
}

/** A secret of a deleted version is answered like an unknown key. Limits the size of the row, and deletes old hashes. */
export const VERSIONS_KEPT_MAX = 8;
