/**
 * The verification of one presented credential, repeated until its result may be returned. Two rules decide that. An
 * acceptance rests on facts that were true at most `stalenessMax` ago (I4). A denial rests on facts confirmed after the
 * request arrived (I5). API keys, tokens and the confirmation of callers all use this class.
 */
import type { KeyVersion } from '../domain/key.ts';
import { type AccessRequest, type Denial, decide } from '../domain/verification.ts';
import { type Clock, clockInDoubt, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import type { LimitDecision } from '../rate-limit/rate-limiter.ts';
import type { KeyLookup, LookupResult } from '../verification/key-lookup.ts';
import type { Sender } from '../verification/sender.ts';
import type { CachedKey } from '../verification/verification-cache.ts';

/** If the facts change this often during one request, it ends with a 503. */
const ROUNDS_MAX = 4;

/** The decision on the facts found. `holder`: the key and version whose secret matched; null in a denial: none. */
export type Evaluation<T = Holder> =
  | { readonly denial: null; readonly holder: T }
  | { readonly denial: Denial; readonly holder: T | null };

/** The key, and the version whose secret matched. */
export interface Holder {
  readonly facts: CachedKey;
  readonly version: KeyVersion;
}

/** No secret of the key matched, or there is no such key. */
export const UNAUTHENTICATED: Evaluation<never> = { denial: { code: 'unknown' }, holder: null };

/**
 * Pure. `version`: the matched version; null: none. `tokenDenial`: the denial by the token's own claims; null for a
 * key.
 */
export function evaluate(
  facts: CachedKey | null,
  version: KeyVersion | null,
  access: AccessRequest,
  now: Instant,
  tokenDenial: Denial | null = null,
): Evaluation {
  if (facts === null || version === null) return UNAUTHENTICATED;
  const denial = decide(facts, version, access, now, tokenDenial);
  // A key of another tenant counts as not existing (I10), even if its secret matched.
  if (denial?.code === 'unknown') return { denial, holder: null };
  return { denial, holder: { facts, version } };
}

/**
 * In each round call `find`, decide with `now`, then `settles`; if there are limits, also `limitsBefore` and
 * `settlesLimits`. If `settles` or `settlesLimits` returns false, begin the next round.
 *
 * @example
 * for (;;) {
 *   const found = await attempt.find();
 *   const evaluation = evaluate(found.facts, matchVersion(found), access, attempt.now);
 *   if (attempt.settles(evaluation)) return evaluation;
 * }
 */
export class VerificationAttempt {
  readonly #lookup: KeyLookup;
  readonly #clock: Clock;
  readonly #keyId: string;
  readonly #sender: Sender;
  /** The facts behind a denial must have been confirmed at or after this moment. */
  #arrived: Moment;
  /** Settles when the facts of this node are confirmed; null: nothing has to be awaited. */
  #confirming: Promise<void> | null;
  #rounds = 0;
  #found: LookupResult | null = null;
  #foundAt: Moment;
  /** While the clock is in doubt and the wall-clock time is checked: that time. Otherwise null. */
  #doubted: Instant | null = null;
  /** The decision of the limits that admitted the request. */
  #admitted: LimitDecision | null = null;
  /** The first denial by limits, on facts that were not confirmed yet. */
  #refused: { readonly facts: CachedKey; readonly decision: LimitDecision } | null = null;

  constructor(
    deps: { readonly lookup: KeyLookup; readonly clock: Clock },
    keyId: string,
    { arrived, sender }: { readonly arrived: Moment; readonly sender: Sender },
  ) {
    this.#lookup = deps.lookup;
    this.#clock = deps.clock;
    this.#keyId = keyId;
    this.#sender = sender;
    this.#arrived = arrived;
    this.#foundAt = arrived;
    this.#confirming = deps.lookup.refresh(arrived);
  }

  /** The time to decide with. */
  get now(): Instant {
    return this.#doubted ?? this.#foundAt.wallMs;
  }

  /**
   * The facts to decide on. A plain value, not a promise, if they are in memory and need no confirmation first.
   *
   * @throws PantheonError `store_unavailable` when nothing can be confirmed in time, `overloaded`.
   */
  find(): LookupResult | Promise<LookupResult> {
    if (this.#doubted !== null && this.#found !== null) return this.#found;
    const cached = this.#confirming === null ? this.#lookup.peek(this.#keyId) : null;
    if (cached === null) return this.#findWaiting();
    this.#found = cached;
    this.#foundAt = this.#arrived;
    return cached;
  }

  async #findWaiting(): Promise<LookupResult> {
    await this.#confirming;
    while (this.#rounds < ROUNDS_MAX) {
      this.#rounds += 1;
      const found = await this.#lookup.find(this.#keyId, this.#sender);
      if (found === null) continue;
      this.#found = found;
      this.#foundAt = momentOf(this.#clock);
      return found;
    }
    throw new PantheonError('store_unavailable', {
      detail: 'The key changed faster than it could be confirmed.',
      retryAfterSeconds: 1,
    });
  }

  /**
   * Throws for a damaged key if a secret of it matched, or if its secrets cannot be read either: a denial could then be
   * wrong.
   *
   * @throws PantheonError `key_quarantined`.
   */
  assertReadable(secretVerified: boolean): void {
    const { damaged, wasRead } = this.#result;
    if (damaged === null || (damaged.secrets !== null && !secretVerified)) return;
    if (wasRead && !secretVerified) this.#lookup.charge(this.#sender);
    throw damaged.error;
  }

  /**
   * Whether the decision may be returned. False: call `find` and decide again.
   *
   * @throws PantheonError `clock_in_doubt`; `store_unavailable` when the limits admitted the request and it is denied
   * now.
   */
  settles({ denial, holder }: Evaluation<unknown>): boolean {
    if (denial === null && this.#mustHoldInDoubt()) return false;
    if (denial !== null && this.#doubted !== null) throw clockInDoubt();
    this.#doubted = null;
    if (denial !== null && holder === null && this.#result.wasRead) this.#lookup.charge(this.#sender);
    if (!this.#mayAnswer(denial)) {
      // For an acceptance the facts must be confirmed from now on; for a denial, since the request arrived.
      const since = denial === null ? this.#clock.monotonicMs() : this.#arrived.monotonicMs;
      this.#confirming = this.#lookup.confirmSince(since);
      return false;
    }
    if (denial === null || this.#admitted === null) return true;
    // The consumed units are not returned, so the answer is a 503 and not a denial: a denial consumes nothing (I8).
    throw new PantheonError('store_unavailable', {
      detail: 'The key changed during the request.',
      retryAfterSeconds: 1,
    });
  }

  #mayAnswer(denial: Denial | null): boolean {
    const { asOf, isForged } = this.#result;
    // A wrong tag never becomes valid, so it needs no confirmation.
    if (isForged) return true;
    if (denial === null) return this.#lookup.isFresh(asOf, this.#foundAt);
    // Revocation is final, so it needs no confirmation.
    return denial.code === 'revoked' || this.#isConfirmed(asOf);
  }

  /** The earlier decision of the limits for these facts; null: they have to be checked. */
  limitsBefore(facts: CachedKey): LimitDecision | null {
    if (this.#admitted !== null) return this.#admitted;
    return this.#refused?.facts === facts ? this.#refused.decision : null;
  }

  /** Whether the decision of the limits may be returned. False: call `find` and decide again. */
  settlesLimits(facts: CachedKey, decision: LimitDecision): boolean {
    const { asOf } = this.#result;
    if (decision.admitted) {
      // The facts are checked again before an acceptance, because the limiter may have waited. If they are too old, the
      // key is looked up and decided on again.
      if (decision === this.#admitted || this.#lookup.isFresh(asOf)) return true;
      this.#admitted = decision;
      this.#arrived = momentOf(this.#clock);
      this.#startAgain(this.#lookup.refresh(this.#arrived));
      return false;
    }
    // Another node may have raised the limits, so a denial by limits needs confirmed facts too. They are checked again
    // at most once.
    if (this.#refused !== null || this.#isConfirmed(asOf)) return true;
    this.#refused = { facts, decision };
    this.#startAgain(this.#lookup.confirmSince(this.#arrived.monotonicMs));
    return false;
  }

  #startAgain(confirming: Promise<void> | null): void {
    this.#rounds = 0;
    this.#confirming = confirming;
  }

  /**
   * While the clock is in doubt, either the wall clock jumped, or it is right and this process stood still. A key that
   * has expired by the wall clock must then be neither accepted nor denied. So an acceptance is decided with both
   * times. True: decide again with the wall-clock time.
   */
  #mustHoldInDoubt(): boolean {
    if (this.#doubted !== null) return false;
    const doubted = this.#clock.doubted ?? null;
    if (doubted === null || doubted <= this.#foundAt.wallMs) return false;
    this.#doubted = doubted;
    return true;
  }

  #isConfirmed(asOf: Moment): boolean {
    return asOf.monotonicMs >= this.#arrived.monotonicMs;
  }

  get #result(): LookupResult {
    invariant(this.#found !== null, 'what is decided on was found before');
    return this.#found;
  }
}
