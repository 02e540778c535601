/** Deletes answers to requests with an `Idempotency-Key` that are remembered no longer. */
import { type Clock, mayDeleteByAge } from '../foundation/clock.ts';
import type { IdempotencyRows } from './idempotency-rows.ts';
import { ANSWER_KEPT_MS } from './idempotency-service.ts';

/** Rows of one transaction: a few milliseconds of SQLite's event loop. */
export const ANSWERS_AT_ONCE_MAX = 100;
/** Transactions of one run. */
const SLICES_MAX = 1_000;

/**
 * The oldest first, up to a bounded number. While the clock is in doubt, or may be ahead, it deletes nothing: what a wrong
 * clock took for old would be carried out again once the clock is right.
 */
export async function pruneAnswers(
  rows: Pick<IdempotencyRows, 'prune'>,
  clock: Clock,
  isEnding: () => boolean,
): Promise<void> {
  for (let slices = 0; slices < SLICES_MAX && mayDeleteByAge(clock) && !isEnding(); slices += 1) {
    const deleted = await rows.prune(clock.now() - ANSWER_KEPT_MS, ANSWERS_AT_ONCE_MAX);
    if (deleted < ANSWERS_AT_ONCE_MAX) return;
  }
}
