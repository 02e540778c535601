/** Waits for work with a time limit. */
import { systemTimers, type Timers } from './timers.ts';

/** The work was not done in time. */
export const LATE: unique symbol = Symbol('late');

/**
 * The result of the work, or {@link LATE} when it takes longer than `ms`. The work then continues, and its result or error
 * is dropped here. Rejects as the work does.
 */
export async function withinMs<T>(
  ms: number,
  work: Promise<T>,
  timers: Timers = systemTimers,
): Promise<T | typeof LATE> {
  const late = Promise.withResolvers<typeof LATE>();
  const cancel = timers.after(ms, () => late.resolve(LATE));
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    cancel();
  }
}
