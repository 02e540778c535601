/** Timers as a port, beside the clock that they belong to, so that whoever moves the time of a test moves them too. */

export interface Timers {
  /**
   * Calls back once, when so many milliseconds of the monotonic clock have passed. Does not keep the process running.
   * Answers how to cancel it; cancelling twice, or after the call, does nothing.
   */
  after(ms: number, callback: () => void): () => void;
}

/** A longer `setTimeout` fires at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemTimers: Timers = {
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(ms, TIMER_MS_MAX));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
