/**
 * How often a key may rotate itself. Each rotation is a durable write, and its holder needs nobody's leave for it: without
 * a bound a holder could keep the store busy for everybody else.
 */
import type { KeyRecord } from '../domain/key.ts';
import { HOUR_MS, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { RateLimiter } from '../rate-limit/rate-limiter.ts';

/** One in 12 seconds: far more than any holder means to, also one that tries again and again. */
export const SELF_ROTATIONS_PER_HOUR_DEFAULT = 300;

export class SelfRotations {
  readonly #limiter: RateLimiter;
  readonly #rules: Parameters<RateLimiter['decide']>[0]['rules'];
  /** Keys that rotate themselves at this moment: never more than there are requests. */
  readonly #underWay = new Set<string>();

  constructor(deps: { readonly limiter: RateLimiter; readonly perHourMax: number }) {
    this.#limiter = deps.limiter;
    this.#rules = [{ name: 'self-rotation', limit: deps.perHourMax, windowSeconds: HOUR_MS / SECOND_MS }];
  }

  /** One at a time for each key. @throws PantheonError `rate_limited`. */
  async oneAtATime<T>(account: string, rotate: () => Promise<T>): Promise<T> {
    if (this.#underWay.has(account))
      throw new PantheonError('rate_limited', {
        detail: 'The key is rotating itself already. Wait for that answer.',
        retryAfterSeconds: 1,
      });
    this.#underWay.add(account);
    try {
      return await rotate();
    } finally {
      this.#underWay.delete(account);
    }
  }

  /** Takes one from the budget of this account of the key, on all nodes that count together. @throws PantheonError `rate_limited`. */
  async spend({ id, tenantId, createdAt }: KeyRecord, account: string = id): Promise<void> {
    // Counted beside the key's own limits, under a name that no key has.
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
