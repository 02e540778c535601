/** When the coming expiry of a key is announced. Pure. `api-keys/key-schedule-job.ts` announces it. */
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import type { KeyRecord } from './key.ts';

type ExpiringKey = Pick<KeyRecord, 'createdAt' | 'expiresAt' | 'state'>;

/** The last announcement: how long before which expiry. */
export interface ExpiryAnnouncement {
  readonly distanceSeconds: number;
  readonly expiresAt: Instant;
}

export interface ExpiryPlan {
  /** The distance to announce now; null: none. */
  readonly announce: number | null;
  /** When the next one is due; null: none is. */
  readonly lookAt: Instant | null;
}

/**
 * Of the distances that were passed, the shortest is announced, once for each expiry. Distances longer than half of the
 * life of a key are not for that key: one that lives an hour is not announced a day before.
 */
export function planExpiryNotice(
  key: ExpiringKey,
  announced: ExpiryAnnouncement | null,
  distances: readonly number[],
  now: Instant,
): ExpiryPlan {
  const { expiresAt, state } = key;
  if (expiresAt === null || state.kind !== 'active' || now >= expiresAt) return { announce: null, lookAt: null };
  const own = distancesOf(key, distances);
  const passed = own.filter((distance) => now >= expiresAt - distance * SECOND_MS);
  const announcedSeconds = announced?.expiresAt === expiresAt ? announced.distanceSeconds : Number.POSITIVE_INFINITY;
  const shortest = passed.length === 0 ? null : Math.min(...passed);
  const announce = shortest !== null && shortest < announcedSeconds ? shortest : null;
  const next = own.filter((distance) => now < expiresAt - distance * SECOND_MS);
  return { announce, lookAt: next.length === 0 ? null : expiresAt - Math.max(...next) * SECOND_MS };
}

/** When to look at a key after it was created or changed; null: never. */
export function firstExpiryLook(key: ExpiringKey, distances: readonly number[]): Instant | null {
  const own = distancesOf(key, distances);
  if (key.expiresAt === null || key.state.kind !== 'active' || own.length === 0) return null;
  return key.expiresAt - Math.max(...own) * SECOND_MS;
}

/** Whether the holder is told with every call: within the longest distance for this key. */
export function isExpiring(key: ExpiringKey, distances: readonly number[], now: Instant): boolean {
  const lookAt = firstExpiryLook(key, distances);
  return lookAt !== null && now >= lookAt;
}

function distancesOf({ createdAt, expiresAt }: ExpiringKey, distances: readonly number[]): readonly number[] {
  if (expiresAt === null) return [];
  const halfSeconds = (expiresAt - createdAt) / 2 / SECOND_MS;
  return distances.filter((distance) => distance <= halfSeconds);
}
