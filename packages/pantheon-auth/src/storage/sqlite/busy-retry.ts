/** How a lock that another process holds is waited for: by asking again, with the event loop free in between. */
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Clock } from '../../foundation/clock.ts';
import { isBusy } from './sqlite-errors.ts';

/** A lock is waited for this long in all; a healthy writer holds it for milliseconds. */
export const BUSY_TOTAL_MAX_MS = 5_000;
/** Pauses are drawn from 1 ms to this, so that two waiting processes do not ask in step, and a free lock is soon found. */
const BUSY_PAUSE_MAX_MS = 10;

/** Runs `attempt` until it does not meet a lock, or throws its last error after {@link BUSY_TOTAL_MAX_MS}. */
export async function withBusyRetries<T>(clock: Clock, attempt: () => T): Promise<T> {
  const startedMs = clock.monotonicMs();
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error) || clock.monotonicMs() - startedMs >= BUSY_TOTAL_MAX_MS) throw error;
    }
    await pause(randomInt(1, BUSY_PAUSE_MAX_MS + 1));
  }
}
