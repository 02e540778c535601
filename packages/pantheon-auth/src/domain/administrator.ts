/**
 * Which keys are administrators: those with all management permissions. Without one nobody could manage keys. So a key
 * to be ended counts if it could be an administrator, and a remaining key only if it certainly is one.
 */
import { DAY_MS, type Instant } from '../foundation/clock.ts';
import { isActive, type KeyRecord, type KeySettings } from './key.ts';
import { administers } from './key-policy.ts';
import type { RateLimitRule } from './limits.ts';
import { SYSTEM_TENANT } from './tenant.ts';

/** A remaining administrator must be valid for at least this time, so that somebody can create another one. */
export const ADMINISTRATOR_LASTS_MS: number = DAY_MS;
const SECONDS_PER_USE_MAX = 60;

/** Whether this key may be the last administrator. False for a key that can never act again. */
export function mayBeLastAdministrator(record: KeyRecord, now: Instant): boolean {
  const isOver = record.expiresAt !== null && now >= record.expiresAt;
  return isAdministrator(record) && record.state.kind !== 'revoked' && !isOver;
}

/** Whether this key is a usable administrator: it can be used now and tomorrow, from anywhere, and often enough. */
export function isUsableAdministrator(record: KeyRecord, now: Instant): boolean {
  const lasts = record.expiresAt === null || record.expiresAt > now + ADMINISTRATOR_LASTS_MS;
  const isUnbound = record.ipAllowlist.length === 0 && record.quota === null;
  return isAdministrator(record) && isActive(record, now) && lasts && isUnbound && record.rateLimits.every(isAmple);
}

/** Whether a usable administrator would no longer be one after this change, now or later. */
export function losesAdminRights(record: KeyRecord, settings: KeySettings, now: Instant): boolean {
  if (!mayBeLastAdministrator(record, now)) return false;
  const isDated = settings.expiresAt !== record.expiresAt || settings.notBefore !== record.notBefore;
  const isLimited = isDated && (settings.expiresAt !== null || settings.notBefore !== null);
  const isLost = isUsableAdministrator(record, now) && !isUsableAdministrator({ ...record, ...settings }, now);
  return !administers(settings.permissions) || isLimited || isLost;
}

/** Keys of the test environment are not accepted by the management API. */
function isAdministrator({ tenantId, environment, permissions }: KeyRecord): boolean {
  return tenantId === SYSTEM_TENANT && environment === 'live' && administers(permissions);
}

function isAmple({ limit, windowSeconds }: RateLimitRule): boolean {
  return limit * SECONDS_PER_USE_MAX >= windowSeconds;
}
