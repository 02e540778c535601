/** What the operator is told about Redis: each change once, in words that hold nothing of what was sent. */
import { type Clock, MINUTE_MS } from '../../foundation/clock.ts';
import type { SharedLimitsContext } from '../rate-limiter.ts';

/** All buckets of a Redis that lost its data are found one by one, and one line is enough. */
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

  /** `reason` is a word. `primary`: which one of a cluster. */
  degraded(reason: string, primary: string): void {
    if (this.#isToldDegraded) return;
    this.#isToldDegraded = true;
    const message = 'Redis does not count limits now: this node decides for itself until it does.';
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
    this.#logger.warn({}, 'INFO is forbidden: check yourself that maxmemory-policy of Redis is noeviction.');
  }

  snapshotOnly(): void {
    if (this.#isToldSnapshotOnly) return;
    this.#isToldSnapshotOnly = true;
    const message =
      'Redis keeps snapshots only: a restart sets limits back to the last one. Use appendonly, or save "".';
    this.#logger.warn({}, message);
  }

  lost(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lossToldAtMs < LOSS_LOGGED_MS) return;
    this.#lossToldAtMs = nowMs;
    this.#logger.warn({}, 'Redis has lost what it counted: limits start full, for one window.');
  }
}
