/** Counts that are older than they are kept for are deleted, a few at a time. */
import { type Clock, DAY_MS, MINUTE_MS } from '../foundation/clock.ts';
import type { UsageRows, UsageStep } from './usage-rows.ts';
import { USAGE_KEPT_MS } from './usage-steps.ts';

/** One transaction of a few milliseconds. */
export const PRUNED_AT_ONCE_MAX = 500;
/**
 * Transactions of one run. It deletes more in a minute than a node counts in one, so a backlog shrinks; other writes come
 * in between.
 */
export const PRUNE_SLICES_MAX = 200;
/** They go a day later than they may be asked for, so that an answer is never missing what was just deleted. */
const DELETED_AFTER_MS = DAY_MS;
const RUN_EVERY_MS: number = MINUTE_MS;

/**
 * Deletes what is no longer kept, up to a bounded number; answers how many rows it deleted. Repeating it is safe. While the
 * clock is in doubt it deletes nothing: what was deleted by a wrong one would be gone for good.
 */
export async function pruneUsage(
  rows: Pick<UsageRows, 'prune'>,
  clock: Clock,
  isEnding: () => boolean = () => false,
): Promise<number> {
  const now = clock.now();
  const steps = Object.keys(USAGE_KEPT_MS) as UsageStep[];
  let slices = 0;
  let deleted = 0;
  for (const step of steps) {
    for (let found = PRUNED_AT_ONCE_MAX; found === PRUNED_AT_ONCE_MAX && slices < PRUNE_SLICES_MAX; slices += 1) {
      if (clock.doubted != null || isEnding()) return deleted;
      found = await rows.prune(step, now - USAGE_KEPT_MS[step] - DELETED_AFTER_MS, PRUNED_AT_ONCE_MAX);
      deleted += found;
    }
  }
  return deleted;
}

/** Runs {@link pruneUsage} every minute for as long as the process runs. */
export class UsageRetention {
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | null = null;
  #isClosed = false;

  /** @param deps `onError`: told of a run that failed; the next one goes on. */
  constructor(deps: {
    readonly rows: Pick<UsageRows, 'prune'>;
    readonly clock: Clock;
    readonly onError: (error: unknown) => void;
  }) {
    const run = async (): Promise<void> => {
      try {
        await pruneUsage(deps.rows, deps.clock, () => this.#isClosed);
      } catch (error) {
        deps.onError(error);
      }
      this.#running = null;
    };
    this.#timer = setInterval(() => {
      this.#running ??= run();
    }, RUN_EVERY_MS);
    this.#timer.unref();
  }

  /** Lets the run under way end after the transaction that it is in. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#running;
  }
}
