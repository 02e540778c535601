/**
 * A row of `key_schedules`: when the service looks at a key again, and what it has announced. Operational state. What is due
 * is decided from the key's record, these announcements, the uses of the current version and whether a next secret is
 * stored. Without its row a key is not announced, rotated or expired until its next change. The row never gives access.
 */
export interface KeyScheduleRow {
  key_id: string;
  tenant_id: string;
  /** The revision of the key that this was decided from. */
  revision: number;
  /** Null: only when the key changes or an awaited use is stored. */
  look_at: number | null;
  /** The version whose first use is awaited: storing a use of it sets `look_at`. Null: no use is awaited. */
  awaits_use_of: number | null;
  /** The number of the last announcement, and the version that it was about; null: there was none. */
  announced: number | null;
  announced_version: number | null;
  /** When the first announcement about that version was made. */
  announced_since: number | null;
  /** The last announcement of an expiry: how many seconds ahead it was made, and of which expiry. */
  expiry_announced: number | null;
  expiry_announced_of: number | null;
}

/** What is written with a change of the key. */
export type KeyScheduleWrite =
  /** A key was created for which something will be due. */
  | {
      readonly kind: 'created';
      readonly keyId: string;
      readonly tenantId: string;
      readonly revision: number;
      readonly lookAt: number;
    }
  /** The key has changed: the next run of the job looks at it if anything can be due. */
  | {
      readonly kind: 'changed';
      readonly keyId: string;
      readonly tenantId: string;
      readonly revision: number;
      /** Whether something can be due, by the record alone. */
      readonly isScheduled: boolean;
      /** The version whose first use is awaited from now on; null: leaves the awaited version as it is. */
      readonly awaitsUseOf: number | null;
      /** Whether earlier announcements are void: the holder could not act on them, or they were about another policy. */
      readonly resetsAnnouncements: boolean;
    }
  /** The key was revoked. */
  | { readonly kind: 'ended'; readonly keyId: string; readonly tenantId: string }
  /** The job has made a new plan for the key. */
  | {
      readonly kind: 'planned';
      readonly keyId: string;
      readonly tenantId: string;
      readonly revision: number;
      /** The time in the row that was read. If it is another one by now, a use was stored meanwhile, and it stays. */
      readonly lookAtRead: number | null;
      readonly lookAt: number | null;
      readonly awaitsUseOf: number | null;
      readonly announced: { readonly number: number; readonly version: number; readonly since: number } | null;
      readonly expiryAnnounced: { readonly distanceSeconds: number; readonly expiresAt: number } | null;
    };
