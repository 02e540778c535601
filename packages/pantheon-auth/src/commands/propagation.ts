/**
 * When a change holds everywhere. With `settle: true` the answer to a change waits until no node can say yes on what was
 * before it (I4), and says until when a verifier that does not follow the log may accept a token made on that.
 */
import type { KeyRecord } from '../domain/key.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import { isFairShare } from '../foundation/fair-share.ts';

/** Two clocks that count the same second do not end it at the same moment. */
export const PROPAGATION_MARGIN_MS = 50;
/** Answers that wait at once, of all tenants. Each keeps a caller and its connection waiting for a second. */
export const PROPAGATIONS_WAITING_MAX = 1_000;
/** The clock decides and not the timer, which may ring early: it is looked at this often, once for all who wait. */
const LOOK_AGAIN_MS = 25;

export interface SettleOptions {
  /**
   * Answer only when the change holds on every node: after `stalenessMax` and 50 ms, about a second. See {@link Settled}.
   */
  readonly settle?: boolean;
}

/** What an answer says beside the record when it was asked to settle. Without `settle` both are absent. */
export interface Settled {
  /**
   * From this moment on no node says yes on what was before the change, and none issues a token on it. Absent although
   * it was asked for: this node is stopping and did not wait; the change is made all the same.
   */
  readonly settledAt?: Date;
  /**
   * The latest `exp` of any token of the key that was issued before `settledAt`: until then a verifier that has only the
   * public keys may accept one. Its own leeway comes on top. Of a rotated key, and of a retired version, it speaks of
   * the tokens of the versions before the current one, those made during an overlap included. With `cascade` it holds
   * for all keys that were revoked. Null: only Pantheon verifies the tokens of this key (HS256), and refuses them now.
   * Tokens that a program makes itself with `generator` live up to five minutes after it makes them.
   */
  readonly offlineUntil?: Date | null;
}

/** Which tokens are meant. */
export interface OfflineQuestion {
  /** Those that were issued until then. */
  readonly issuedUntil: Instant;
  /** And those of versions that go on until then; null: of none. */
  readonly acceptedUntil: Instant | null;
}

/** Knows until when a verifier that does not follow the log may accept tokens of a key. Null: no such verifier can. */
export interface OfflineTokenExpiry {
  endOf(record: KeyRecord | null, question: OfflineQuestion): Promise<Instant | null>;
}

/** A change that was made. */
export interface Changed<T> {
  readonly answer: T;
  /** Whose tokens are meant; null: of any key. */
  readonly record: KeyRecord | null;
  /** Until when a version that is no longer current still makes tokens. */
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
  /** In the order in which they are due, which is the order in which they came. */
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

  /** Makes the change, and waits as the caller asked for. */
  async settled<T extends object>(
    tenantId: string,
    { settle }: SettleOptions,
    change: () => Promise<Changed<T>>,
  ): Promise<T & Settled> {
    return settle === true ? this.waitFor(tenantId, change) : (await change()).answer;
  }

  /**
   * Makes the change and answers when it holds everywhere; also when nothing had to be changed, for another node may
   * have made the same change a moment ago. What the change throws is thrown at once, and nothing that comes after it
   * makes an error of it.
   *
   * When too many wait, of all tenants or of this one, the change is made and answered at once, without `settledAt`: nobody
   * may keep others from ending what should end by waiting in their place.
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

  /** Lets everybody go who is waiting, unsettled. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    for (const { wake } of this.#waiting.splice(0)) wake(false);
  }

  /** Whether the time has passed. */
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
