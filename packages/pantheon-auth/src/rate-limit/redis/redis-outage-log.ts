/** Log lines about Redis: each change of state once, without input. */
import { type Clock, MINUTE_MS } from '../../foundation/clock.ts';
import type { SharedLimitsContext } from '../rate-limiter.ts';

/** Lost data is found bucket by bucket; one line per minute is enough. */
const LOSS_LOGGED_MS: number = MINUTE_MS;

export class RedisOutageLog {
  readonly #logger: SharedLimitsContext['logger'];
  readonly #clock: Clock;
  #isToldDegraded = false;
  #isToldUninformed = false;
  #isToldSnapshotOnly = false;
  #lossToldAtMs = Number.NEGATIVE_INFINITY;

  constructor(logger: SharedLimitsContext['logger'], clock: Clock) {
    this.#logger = logger;
    this.#clock = clock;
  }

  /** `reason`: one word. `primary`: the name of the primary in a cluster. */
  degraded(reason: string, primary: string): void {
    if (this.#isToldDegraded) return;
    this.#isToldDegraded = true;
    const message = 'Redis does not count limits now: this node decides alone until it does.';
    this.#logger.warn({ reason, primary }, message);
  }

  whole(): void {
    if (!this.#isToldDegraded) return;
    this.#isToldDegraded = false;
    this.#logger.warn({}, 'Redis counts limits again.');
  }

  uninformed(): void {
    if (this.#isToldUninformed) return;
    this.#isToldUninformed = true;
    this.#logger.warn({}, 'INFO is not allowed: check that maxmemory-policy of Redis is noeviction.');
  }

  snapshotOnly(): void {
    if (this.#isToldSnapshotOnly) return;
    this.#isToldSnapshotOnly = true;
    const message = 'Redis uses snapshots only: a restart resets limits to the last one. Use appendonly, or save "".';
    this.#logger.warn({}, message);
  }

  lost(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lossToldAtMs < LOSS_LOGGED_MS) return;
    this.#lossToldAtMs = nowMs;
    this.#logger.warn({}, 'Redis has lost its counters: limits start as used up, for one window.');
  }
}
