/**
 * Which keys can administer: give and take every right of managing. Losing the last one would lock everybody out, so it is
 * asked of a key that is to go whether it could be one, and of a key that is to remain whether it certainly is.
 */
import { DAY_MS, type Instant } from '../foundation/clock.ts';
import { isActive, type KeyRecord, type KeySettings } from './key.ts';
import { administers } from './key-policy.ts';
import type { RateLimitRule } from './limits.ts';
import { SYSTEM_TENANT } from './tenant.ts';

/** An administrator that counts is good for longer than it takes somebody to notice, and to make the next one. */
export const ADMINISTRATOR_LASTS_MS: number = DAY_MS;
const SECONDS_PER_USE_MAX = 60;

/** Whether everybody could be locked out when this key goes. Not one that can never act again as it is. */
export function mayBeLastAdministrator(record: KeyRecord, now: Instant): boolean {
  const isOver = record.expiresAt !== null && now >= record.expiresAt;
  return isAdministrator(record) && record.state.kind !== 'revoked' && !isOver;
}

/**
 * Whether others may go because this key remains: it can be used now, from anywhere, as often as an administrator needs,
 * and tomorrow.
 */
export function isUsableAdministrator(record: KeyRecord, now: Instant): boolean {
  const lasts = record.expiresAt === null || record.expiresAt > now + ADMINISTRATOR_LASTS_MS;
  const isUnbound = record.ipAllowlist.length === 0 && record.quota === null;
  return isAdministrator(record) && isActive(record, now) && lasts && isUnbound && record.rateLimits.every(isAmple);
}

/** Whether an administrator would stop being a usable one by this change, now or later. */
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
