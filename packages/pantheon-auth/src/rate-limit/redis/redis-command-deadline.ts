/** How long an answer of Redis is waited for, and how many questions may wait. Knows nothing of what was asked. */
import type { Clock } from '../../foundation/clock.ts';

/** A healthy Redis answers in about a millisecond; a verification that waits longer than this helps nobody. */
export const COMMAND_TIMEOUT_MS = 250;

/** A timer this late tells of our own event loop, not of Redis. */
const STALL_MS = 50;

/** So often a question gets its time again. A loop that is always late would else never stop waiting. */
const STALLS_MAX = 2;

/** Questions that wait for an answer. More than this cannot be answered in time, and would only hold memory. */
export const IN_FLIGHT_MAX = 2_000;

/** Redis did not answer in time. */
export class CommandTimeout extends Error {}

export class CommandDeadline {
  readonly #clock: Clock;
  #inFlight = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isExhausted(): boolean {
    return this.#inFlight >= IN_FLIGHT_MAX;
  }

  /**
   * Waits for an answer, but not for long. A timer that fires late tells that our event loop was stalled: then the question
   * may not even have been sent, and gets its time again. One that fires in time leaves one turn to read what has arrived.
   */
  within<T>(work: Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let timer: NodeJS.Timeout;
    let stalls = 0;
    const arm = (): void => {
      const dueMs = this.#clock.monotonicMs() + COMMAND_TIMEOUT_MS;
      timer = setTimeout(() => {
        if (stalls < STALLS_MAX && this.#clock.monotonicMs() - dueMs > STALL_MS) {
          stalls += 1;
          arm();
        } else setImmediate(() => reject(new CommandTimeout()));
      }, COMMAND_TIMEOUT_MS);
    };
    arm();
    this.#inFlight += 1;
    const settled = (): void => {
      clearTimeout(timer);
      this.#inFlight -= 1;
    };
    work.then(
      (value) => {
        settled();
        resolve(value);
      },
      (error: unknown) => {
        settled();
        reject(error);
      },
    );
    return promise;
  }
}
