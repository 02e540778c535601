/** The time limit of Redis commands, and the maximum number of commands in progress. */
import type { Clock } from '../../foundation/clock.ts';

/** A healthy Redis answers in about a millisecond. A verification should not wait longer than this. */
export const COMMAND_TIMEOUT_MS = 250;

/** If a timer is this late, the event loop of this process was blocked. */
const STALL_MS = 50;

/** How often a command gets its time again, so that a constantly blocked event loop does not wait forever. */
const STALLS_MAX = 2;

/** The most commands in progress. More could not be answered in time. */
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
   * Waits for an answer with a time limit. If the timer fires late, the event loop was blocked and the command may not
   * have been sent, so it gets its time again. If it fires in time, one turn of the event loop remains to read an
   * answer that has arrived.
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
