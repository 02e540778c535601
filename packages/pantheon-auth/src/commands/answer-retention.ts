/** Deletes expired idempotency records. */
import { type Clock, isTimeCertain } from '../foundation/clock.ts';
import type { IdempotencyRows } from './idempotency-rows.ts';
import { ANSWER_KEPT_MS } from './idempotency-service.ts';

/** Rows per transaction: SQLite blocks the event loop for a few milliseconds. */
export const ANSWERS_AT_ONCE_MAX = 100;
/** Transactions per run. */
const SLICES_MAX = 1_000;

/**
 * Deletes the oldest first, up to a bounded number. Deletes nothing while the clock is in doubt or may be ahead: a
 * record deleted too early would let a repeated request be executed again.
 */
export async function pruneAnswers(
  rows: Pick<IdempotencyRows, 'prune'>,
  clock: Clock,
  isEnding: () => boolean,
): Promise<void> {
  for (let slices = 0; slices < SLICES_MAX && isTimeCertain(clock) && !isEnding(); slices += 1) {
    const deleted = await rows.prune(clock.now() - ANSWER_KEPT_MS, ANSWERS_AT_ONCE_MAX);
    if (deleted < ANSWERS_AT_ONCE_MAX) return;
  }
}
