/** Timers as a port, so that a test clock also controls them. */

export interface Timers {
  /**
   * Calls `callback` once after so many milliseconds of the monotonic clock. Does not keep the process running. Returns
   * a function that cancels it; calling that twice, or after the callback, does nothing.
   */
  after(ms: number, callback: () => void): () => void;
}

/** `setTimeout` with a longer delay fires at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemTimers: Timers = {
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(ms, TIMER_MS_MAX));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
