/** Deletes expired usage counts, a few at a time. */
import { type Clock, DAY_MS, isTimeCertain } from '../foundation/clock.ts';
import { ROWS_AT_ONCE_MAX, type UsageRows, type UsageStep } from './usage-rows.ts';
import { USAGE_KEPT_MS } from './usage-steps.ts';

/**
 * The most transactions of one run; other writes are executed between them. With a run every minute, this deletes more
 * rows than ten nodes add, so a backlog shrinks.
 */
export const SLICES_MAX = 10_000;
/** Deleted a day after they can no longer be requested, so that a report never lacks rows that were just deleted. */
const DELETED_AFTER_MS = DAY_MS;

/**
 * Deletes expired counts, up to a bounded number; returns the number of rows. Safe to repeat. Deletes nothing while the
 * clock is in doubt or may be ahead.
 */
export async function pruneUsage(
  rows: Pick<UsageRows, 'prune'>,
  clock: Clock,
  isEnding: () => boolean,
): Promise<number> {
  const now = clock.now();
  const steps = Object.keys(USAGE_KEPT_MS) as UsageStep[];
  let slices = 0;
  let deleted = 0;
  for (const step of steps) {
    for (let found = ROWS_AT_ONCE_MAX; found === ROWS_AT_ONCE_MAX && slices < SLICES_MAX; slices += 1) {
      if (!isTimeCertain(clock) || isEnding()) return deleted;
      found = await rows.prune(step, now - USAGE_KEPT_MS[step] - DELETED_AFTER_MS, ROWS_AT_ONCE_MAX);
      deleted += found;
    }
  }
  return deleted;
}
