/**
 * A row of `key_schedules`: when the service looks at a key again. Operational state: what is due is decided from the
 * key's record. A missing row delays a rotation and admits nobody.
 */
export interface KeyScheduleRow {
  key_id: string;
  tenant_id: string;
  /** The revision of the key that this was decided from. */
  revision: number;
  /** Null: not before the key changes, or is used. */
  look_at: number | null;
  /** It is looked at when this version is used; null: uses do not matter. */
  awaits_use_of: number | null;
  /** The last notice that was announced, and the version that it was about; null: none was. */
  told: number | null;
  told_version: number | null;
}

/** What is written with a change of the key. */
export type KeyScheduleWrite =
  /** The key has changed: it is looked at from `lookAt` on. */
  | {
      readonly kind: 'changed';
      readonly keyId: string;
      readonly tenantId: string;
      readonly revision: number;
      /** Null, and no version is awaited: there is nothing to look for. */
      readonly lookAt: number | null;
      readonly awaitsUseOf: number | null;
    }
  /** It was looked at. */
  | {
      readonly kind: 'planned';
      readonly keyId: string;
      readonly tenantId: string;
      readonly revision: number;
      readonly lookAt: number | null;
      readonly awaitsUseOf: number | null;
      readonly told: { readonly number: number; readonly version: number } | null;
    };
