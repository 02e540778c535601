/**
 * Waits until a change is known to all nodes. With `settle: true` the answer to a change waits until no node accepts
 * what the change ended (I4), and says until when a verifier that does not follow the log may accept a token issued
 * before.
 */
import type { KeyRecord } from '../domain/key.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import { isFairShare } from '../foundation/fair-share.ts';
import { assertFlag } from './input.ts';

/** A margin for the clocks of two nodes, which do not run at exactly the same rate. */
export const PROPAGATION_MARGIN_MS = 50;
/** The most answers that wait at once, of all tenants. Each keeps a connection open for a second. */
export const PROPAGATIONS_WAITING_MAX = 1_000;
/**
 * How often the clock is checked, once for all waiting answers. The clock decides and not a timer, which may fire
 * early.
 */
const LOOK_AGAIN_MS = 25;

export interface SettleOptions {
  /**
   * Wait until the change is effective on every node: `stalenessMax` plus 50 ms, about a second. See {@link Settled}.
   */
  readonly settle?: boolean;
}

/** Members of the result of a change with `settle`. Without `settle` both are absent. */
export interface Settled {
  /**
   * From this time on no node accepts what the change ended, and none issues a token based on it. Absent, although
   * `settle` was set, when this node is stopping and did not wait. The change has been made anyway.
   */
  readonly settledAt?: Date;
  /**
   * The latest `exp` of any token of the key that was issued before `settledAt`. Until then, plus its own leeway, a
   * verifier that has only the public keys may accept such a token. After a rotation or the retirement of a version it
   * is about tokens of the versions before the current one, including those issued during an overlap. With `cascade` it
   * is about all revoked keys. Null: only this service verifies the tokens of this key (HS256), and it refuses them
   * now. Not included are tokens that a program makes itself with `generator`, which last up to five minutes.
   */
  readonly offlineUntil?: Date | null;
}

/** The tokens in question. */
export interface OfflineQuestion {
  /** Tokens issued until this time. */
  readonly issuedUntil: Instant;
  /** Also tokens of versions that are accepted until this time; null: none. */
  readonly acceptedUntil: Instant | null;
}

/**
 * Computes until when a verifier that does not follow the log may accept tokens of a key. Null: no such verifier can.
 */
export interface OfflineTokenExpiry {
  endOf(record: KeyRecord | null, question: OfflineQuestion): Promise<Instant | null>;
}

/** A committed change. */
export interface Changed<T> {
  readonly answer: T;
  /** The key whose tokens are in question; null: any key. */
  readonly record: KeyRecord | null;
  /** Until when a version that is no longer current can still get tokens. */
  readonly acceptedUntil?: Instant;
}

interface Waiter {
  readonly dueAtMs: number;
  readonly wake: (isSettled: boolean) => void;
}

export class Propagation {
  readonly #waitMs: number;
  readonly #clock: Clock;
  readonly #tokens: OfflineTokenExpiry;
  /** In the order in which they are due, which is the order of arrival. */
  readonly #waiting: Waiter[] = [];
  #taken = 0;
  readonly #takenByTenant = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(deps: { readonly stalenessMaxMs: number; readonly clock: Clock; readonly tokens: OfflineTokenExpiry }) {
    this.#waitMs = deps.stalenessMaxMs + PROPAGATION_MARGIN_MS;
    this.#clock = deps.clock;
    this.#tokens = deps.tokens;
  }

  /** Makes the change, and waits if `settle` is set. @throws PantheonError `invalid_request` if it is no boolean. */
  async settled<T extends object>(
    tenantId: string,
    { settle }: SettleOptions,
    change: () => Promise<Changed<T>>,
  ): Promise<T & Settled> {
    assertFlag('settle', settle);
    return settle === true ? this.waitFor(tenantId, change) : (await change()).answer;
  }

  /**
   * Makes the change and returns when it is effective on every node. Waits also when nothing had to be changed, because
   * another node may just have made the same change. Errors of the change are thrown at once; after the change nothing
   * throws.
   *
   * When too many answers wait, of all tenants or of this one, the change is made and the result returned at once,
   * without `settledAt`, so that waiting callers cannot prevent others from revoking.
   */
  async waitFor<T extends object>(tenantId: string, change: () => Promise<Changed<T>>): Promise<T & Settled> {
    const own = this.#takenByTenant.get(tenantId) ?? 0;
    if (!isFairShare({ all: this.#taken + 1, own: own + 1 }, PROPAGATIONS_WAITING_MAX)) return (await change()).answer;
    this.#take(tenantId, 1);
    try {
      const { answer, record, acceptedUntil = null } = await change();
      if (!(await this.#wait())) return answer;
      const settledAt = this.#clock.now();
      const end = await this.#tokens.endOf(record, { issuedUntil: settledAt, acceptedUntil });
      return { ...answer, settledAt: new Date(settledAt), offlineUntil: end === null ? null : new Date(end) };
    } finally {
      this.#take(tenantId, -1);
    }
  }

  #take(tenantId: string, change: 1 | -1): void {
    const own = (this.#takenByTenant.get(tenantId) ?? 0) + change;
    this.#taken += change;
    if (own === 0) this.#takenByTenant.delete(tenantId);
    else this.#takenByTenant.set(tenantId, own);
  }

  /** Ends all waits, without `settledAt`. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    for (const { wake } of this.#waiting.splice(0)) wake(false);
  }

  /** Whether the waiting time passed. */
  #wait(): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false);
    const dueAtMs = this.#clock.monotonicMs() + this.#waitMs;
    return new Promise((wake) => {
      this.#waiting.push({ dueAtMs, wake });
      this.#look();
    });
  }

  #look(): void {
    const nowMs = this.#clock.monotonicMs();
    for (let [first] = this.#waiting; first !== undefined && first.dueAtMs <= nowMs; [first] = this.#waiting) {
      this.#waiting.shift();
      first.wake(true);
    }
    if (this.#waiting.length === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#look();
    }, LOOK_AGAIN_MS);
  }
}
