/** Counts that are older than they are kept for are deleted, and old versions of keys are added up, a few at a time. */
import { type Clock, DAY_MS, mayDeleteByAge } from '../foundation/clock.ts';
import type { UsageRows, UsageStep } from './usage-rows.ts';
import { USAGE_KEPT_MS } from './usage-steps.ts';

/** Rows of one transaction, which keeps SQLite's event loop: of 500 it took 44 ms, of these it takes less than 10. */
export const ROWS_AT_ONCE_MAX = 100;
/**
 * Transactions of one run. Run every minute it deletes more than a node counts in one, so a backlog shrinks; other writes
 * come in between.
 */
export const SLICES_MAX = 1_000;
/** They go a day later than they may be asked for, so that an answer is never missing what was just deleted. */
const DELETED_AFTER_MS = DAY_MS;

/**
 * Deletes what is no longer kept, up to a bounded number; answers how many rows it deleted. Repeating it is safe. While the
 * clock is in doubt, or may be ahead, it deletes nothing: what was deleted by a wrong one would be gone for good.
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
      if (!mayDeleteByAge(clock) || isEnding()) return deleted;
      found = await rows.prune(step, now - USAGE_KEPT_MS[step] - DELETED_AFTER_MS, ROWS_AT_ONCE_MAX);
      deleted += found;
    }
  }
  return deleted;
}

/** Adds up the use of versions that are not told one by one any more. What the clock says does not matter to it. */
export async function foldVersions(rows: Pick<UsageRows, 'foldVersions'>, isEnding: () => boolean): Promise<void> {
  for (let slices = 0; slices < SLICES_MAX && !isEnding(); slices += 1) {
    if (!(await rows.foldVersions(ROWS_AT_ONCE_MAX))) return;
  }
}
