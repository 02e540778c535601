/** An API key as its owner sees it: the record with its usage. */
import type { AppTypes, CustomClaims, GrantablePattern, Metadata, PermissionPattern } from '../domain/app-types.ts';
import { entityTag } from '../domain/entity-tag.ts';
import {
  type Environment,
  isActive,
  type KeyRecord,
  type KeyState,
  type KeyVersion,
  type VersionState,
  versionState,
} from '../domain/key.ts';
import type { MissedRotation } from '../domain/key-settings.ts';
import { settingsToWire } from '../domain/key-wire.ts';
import { type RotationState, rotationStatus } from '../domain/rotation-schedule.ts';
import type { Instant } from '../foundation/clock.ts';
import { addCounts, type KeyUsage, latestUse, type StoredUsage } from '../usage/usage-rows.ts';

/** The record of an API key. Never contains a secret or a hash. */
export interface APIKey<App extends AppTypes = AppTypes> {
  readonly id: string;
  /** Changes with the settings and the state, not with usage. For `ifMatch`. */
  readonly etag: string;
  readonly tenantId: string;
  readonly userId: string;
  readonly name: string;
  readonly description?: string;
  readonly environment: Environment;
  /** Prefix, environment and id of the key string, without any part of the secret. */
  readonly hint: string;
  readonly permissions: readonly PermissionPattern<App>[];
  readonly grantable: readonly GrantablePattern<App>[];
  readonly createdAt: Date;
  readonly createdBy?: string;
  readonly notBefore?: Date;
  readonly expiresAt?: Date;
  readonly lastUsedAt?: Date;
  /** The number of accepted verifications, over all versions. May lag by a second. */
  readonly usageCount: number;
  /** Whether the key is active, has begun and has not expired. */
  readonly isActive: boolean;
  readonly state: KeyState['kind'];
  readonly stateReason?: string;
  readonly stateChangedAt?: Date;
  /** The number of the current version. */
  readonly version: number;
  readonly rateLimits: readonly { readonly name: string; readonly limit: number; readonly window: string }[];
  readonly quota?: { readonly limit: number; readonly period: 'day' | 'month' };
  readonly ipAllowlist: readonly string[];
  readonly rotation?: APIKeyRotation;
  readonly jwt?: {
    readonly algorithm: string;
    readonly audience: readonly string[];
    readonly customClaims: CustomClaims<App>;
    readonly ttl: string;
  };
  readonly metadata?: Metadata<App>;
}

/** The rotation policy of a key. Without `every` it has the member `overlap` only. */
export interface APIKeyRotation {
  readonly overlap: string;
  readonly every?: string;
  readonly window?: string;
  readonly onMissed?: MissedRotation;
  /** The public key (JWK) to which the service encrypts the next key string. */
  readonly recipientJwk?: Readonly<Record<string, unknown>>;
  /** When the next rotation is due, or was. */
  readonly dueAt?: Date;
  /** `overdue`: a window has passed in which the holder did not claim the next version. */
  readonly state?: RotationState;
  /** The end of the current window, in which the holder can claim the next version. */
  readonly claimBefore?: Date;
}

/** One secret of an API key, as its owner sees it. */
export interface APIKeyVersion {
  readonly version: number;
  readonly state: VersionState;
  readonly createdAt: Date;
  readonly acceptedUntil?: Date;
  readonly lastUsedAt?: Date;
  readonly usageCount: number;
  /** The latest addresses it was used from, newest first. */
  readonly lastAddresses: readonly string[];
}

export function toApiKey<App extends AppTypes = AppTypes>(
  record: KeyRecord,
  usage: readonly KeyUsage[],
  view: { readonly keyPrefix: string; readonly now: Instant },
): APIKey<App> {
  const wire = settingsToWire(record) as unknown as Pick<APIKey, 'rateLimits'>;
  const lastUsedAt = latestUse(usage.map((part) => part.lastUsedAt));
  const apiKey: APIKey = {
    id: record.id,
    etag: entityTag('key', record.revision),
    tenantId: record.tenantId,
    userId: record.userId,
    name: record.name,
    ...(record.description === null ? {} : { description: record.description }),
    environment: record.environment,
    hint: keyHint(view.keyPrefix, record.environment, record.id),
    permissions: record.permissions,
    grantable: record.grantable,
    createdAt: new Date(record.createdAt),
    ...(record.createdBy === null ? {} : { createdBy: record.createdBy }),
    ...(record.notBefore === null ? {} : { notBefore: new Date(record.notBefore) }),
    ...(record.expiresAt === null ? {} : { expiresAt: new Date(record.expiresAt) }),
    ...(lastUsedAt === null ? {} : { lastUsedAt: new Date(lastUsedAt) }),
    usageCount: usage.reduce((sum, part) => addCounts(sum, part.usageCount), 0),
    isActive: isActive(record, view.now),
    ...stateOf(record.state),
    version: record.version,
    rateLimits: wire.rateLimits,
    ...(record.quota === null ? {} : { quota: record.quota }),
    ipAllowlist: record.ipAllowlist,
    ...rotationOf(record, view.now),
    ...jwtOf(record),
    ...(record.metadata === null ? {} : { metadata: record.metadata }),
  };
  // That the key holds what the application says its keys hold is its word: records have no such types.
  return apiKey as APIKey<App>;
}

export function toApiKeyVersion(version: KeyVersion, usage: StoredUsage | undefined, now: Instant): APIKeyVersion {
  return {
    version: version.version,
    state: versionState(version, now),
    createdAt: new Date(version.createdAt),
    ...(version.acceptedUntil === null ? {} : { acceptedUntil: new Date(version.acceptedUntil) }),
    ...(usage === undefined || usage.lastUsedAt === null ? {} : { lastUsedAt: new Date(usage.lastUsedAt) }),
    usageCount: usage?.usageCount ?? 0,
    lastAddresses: usage?.lastAddresses ?? [],
  };
}

/** The hint of a key: prefix, environment and id, without any part of the secret. */
export function keyHint(keyPrefix: string, environment: Environment, id: string): string {
  return `${keyPrefix}_${environment}_${id}…`;
}

function stateOf(state: KeyState): Pick<APIKey, 'state' | 'stateReason' | 'stateChangedAt'> {
  if (state.kind === 'active') return { state: 'active' };
  const reason = state.reason === null ? {} : { stateReason: state.reason };
  return { state: state.kind, stateChangedAt: new Date(state.at), ...reason };
}

function rotationOf(record: KeyRecord, now: Instant): Pick<APIKey, 'rotation'> {
  if (record.rotation === null) return {};
  const wire = settingsToWire(record)['rotation'] as unknown as Required<APIKeyRotation>;
  const { overlap, every, window, onMissed } = wire;
  const status = rotationStatus(record, now);
  if (status === null) return { rotation: { overlap } };
  const { recipientJwk } = record.rotation;
  const rotation: APIKeyRotation = {
    overlap,
    every,
    window,
    onMissed,
    ...(recipientJwk !== null && { recipientJwk }),
    dueAt: new Date(status.dueAt),
    state: status.state,
    ...(status.claimBefore !== null && { claimBefore: new Date(status.claimBefore) }),
  };
  return { rotation };
}

function jwtOf(record: KeyRecord): Pick<APIKey, 'jwt'> {
  const wire = settingsToWire(record)['jwt'];
  return wire === null ? {} : { jwt: wire as unknown as NonNullable<APIKey['jwt']> };
}
