/**
 * Limits how often a key may rotate itself. Each rotation is a durable write that needs no permission, so without a
 * limit one holder could keep the database busy.
 */
import type { KeyRecord } from '../domain/key.ts';
import { HOUR_MS, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { RateLimiter } from '../rate-limit/rate-limiter.ts';

/** One in 12 seconds: more than a holder needs, also with retries. */
export const SELF_ROTATIONS_PER_HOUR_DEFAULT = 300;

export class SelfRotations {
  readonly #limiter: RateLimiter;
  readonly #rules: Parameters<RateLimiter['decide']>[0]['rules'];
  /** Keys with a rotation in progress. Bounded by the number of requests. */
  readonly #underWay = new Set<string>();

  constructor(deps: { readonly limiter: RateLimiter; readonly perHourMax: number }) {
    this.#limiter = deps.limiter;
    this.#rules = [{ name: 'self-rotation', limit: deps.perHourMax, windowSeconds: HOUR_MS / SECOND_MS }];
  }

  /** Runs one rotation at a time per key. @throws PantheonError `rate_limited`. */
  async oneAtATime<T>(account: string, rotate: () => Promise<T>): Promise<T> {
    if (this.#underWay.has(account))
      throw new PantheonError('rate_limited', {
        detail: 'The key is already rotating itself. Wait for that answer.',
        retryAfterSeconds: 1,
      });
    this.#underWay.add(account);
    try {
      return await rotate();
    } finally {
      this.#underWay.delete(account);
    }
  }

  /**
   * Takes one unit from the hourly budget of this account. The budget is shared by all nodes that share limits. @throws
   * PantheonError `rate_limited`.
   */
  async spend({ id, tenantId, createdAt }: KeyRecord, account: string = id): Promise<void> {
    // Counted like a limit of the key, under an id that no key has.
    const counter = {
      tenantId,
      keyId: `self-rotation:${account}`,
      createdAt,
      rules: this.#rules,
      quota: null,
      cost: 1,
    };
    const decision = await this.#limiter.decide(counter);
    if (decision.admitted) return;
    throw new PantheonError('rate_limited', {
      detail: 'The key has rotated itself too often within the hour.',
      retryAfterSeconds: decision.retryAfterSeconds,
    });
  }
}
