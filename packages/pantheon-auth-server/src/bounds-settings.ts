/** How much of a thing there may be, where an operator may want another number than ours. */
import { parseCount } from './settings.ts';

/** The settings that are read here. */
type BoundName = 'SELF_ROTATIONS_PER_HOUR' | 'KEYS_PER_TENANT_MAX';

/** What was given; the library knows the rest. */
export interface BoundsSetting {
  readonly selfRotationsPerHour?: number;
  readonly keysPerTenantMax?: number;
}

/** One a second: whoever wants more wants none. */
const SELF_ROTATIONS_BOUNDS = { min: 1, max: 3_600 } as const;
/** Ten times as many as one store was measured with. */
const KEYS_BOUNDS = { min: 1, max: 100_000_000 } as const;

/** @throws PantheonError `invalid_setting`. */
export function boundsOf(read: (name: BoundName) => string | undefined): BoundsSetting {
  const rotations = read('SELF_ROTATIONS_PER_HOUR');
  const keys = read('KEYS_PER_TENANT_MAX');
  return {
    ...(rotations !== undefined && {
      selfRotationsPerHour: parseCount('SELF_ROTATIONS_PER_HOUR', rotations, SELF_ROTATIONS_BOUNDS),
    }),
    ...(keys !== undefined && { keysPerTenantMax: parseCount('KEYS_PER_TENANT_MAX', keys, KEYS_BOUNDS) }),
  };
}
