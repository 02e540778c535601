/** Limits and intervals that an operator can change. */
import { EXPIRY_NOTICES_MAX, PantheonError, parseDuration } from 'pantheon-auth';
import { parseCount } from './settings.ts';

/** The settings that are read here. */
type BoundName =
  | 'SELF_ROTATIONS_PER_HOUR'
  | 'SIGNING_KEY_ROTATION'
  | 'KEYS_PER_TENANT_MAX'
  | 'CACHE_MB'
  | 'EXPIRY_NOTICES';

/** The limits that were set. For the others the library has defaults. */
export interface BoundsSetting {
  readonly selfRotationsPerHour?: number;
  readonly signingKeyRotation?: string;
  readonly expiryNotices?: readonly string[];
  readonly keysPerTenantMax?: number;
  readonly cacheBytesMax?: number;
}

/** One a second at most: beyond that there is no use in a limit. */
const SELF_ROTATIONS_BOUNDS = { min: 1, max: 3_600 } as const;
/** Ten times as many keys as have been measured in one database. */
const KEYS_BOUNDS = { min: 1, max: 100_000_000 } as const;

/** A day: more often would leave no time for what a key has signed to expire. */
const ROTATION_SECONDS_LEAST = 86_400;

/** Up to a terabyte. */
const CACHE_MB_BOUNDS = { min: 4, max: 1_048_576 } as const;
const BYTES_PER_MB: number = 1_024 * 1_024;

/** @throws PantheonError `invalid_setting`. */
export function boundsOf(read: (name: BoundName) => string | undefined): BoundsSetting {
  const rotations = read('SELF_ROTATIONS_PER_HOUR');
  const keys = read('KEYS_PER_TENANT_MAX');
  const cacheMb = read('CACHE_MB');
  const signingKeyRotation = read('SIGNING_KEY_ROTATION');
  const expiryNotices = read('EXPIRY_NOTICES');
  return {
    ...(rotations !== undefined && {
      selfRotationsPerHour: parseCount('SELF_ROTATIONS_PER_HOUR', rotations, SELF_ROTATIONS_BOUNDS),
    }),
    ...(signingKeyRotation !== undefined && { signingKeyRotation: parseRotation(signingKeyRotation) }),
    ...(expiryNotices !== undefined && { expiryNotices: parseExpiryNotices(expiryNotices) }),
    ...(keys !== undefined && { keysPerTenantMax: parseCount('KEYS_PER_TENANT_MAX', keys, KEYS_BOUNDS) }),
    ...(cacheMb !== undefined && { cacheBytesMax: parseCount('CACHE_MB', cacheMb, CACHE_MB_BOUNDS) * BYTES_PER_MB }),
  };
}

/** @throws PantheonError `invalid_setting`. */
function parseExpiryNotices(text: string): readonly string[] {
  if (text === 'off') return [];
  const notices = text.split(',');
  const isList = notices.length <= EXPIRY_NOTICES_MAX && notices.every((one) => (parseDuration(one) ?? 0) > 0);
  if (isList) return notices;
  throw new PantheonError('invalid_setting', {
    field: 'EXPIRY_NOTICES',
    detail: `Write at most ${EXPIRY_NOTICES_MAX} durations such as 30d,7d,1d without blanks, or off.`,
  });
}

/** @throws PantheonError `invalid_setting`. */
function parseRotation(text: string): string {
  if (text === 'off' || (parseDuration(text) ?? 0) >= ROTATION_SECONDS_LEAST) return text;
  throw new PantheonError('invalid_setting', {
    field: 'SIGNING_KEY_ROTATION',
    detail: 'Write a duration from 1d on, such as 90d, or off.',
  });
}
