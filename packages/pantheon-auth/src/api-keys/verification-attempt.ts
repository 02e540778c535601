/**
 * One presented credential, until it can be answered: when what was found has to be looked up and decided on again. *A yes
 * has an age* (I4): every fact behind it was true at most `stalenessMax` ago. *Only a fact confirmed after the request
 * arrived may say no* (I5). The rules are here once, for API keys, tokens, and callers that are looked at again.
 */
import type { KeyVersion } from '../domain/key.ts';
import { type AccessRequest, type Denial, decide } from '../domain/verification.ts';
import { type Clock, clockInDoubt, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import type { LimitDecision } from '../rate-limit/rate-limiter.ts';
import type { KeyLookup, LookupResult } from '../verification/key-lookup.ts';
import type { Sender } from '../verification/sender.ts';
import type { CachedKey } from '../verification/verification-cache.ts';

/** A fact that changes this often while one request is decided is no ground for an answer. */
const ROUNDS_MAX = 4;

/** What was decided on what was found. `holder`: whose secret was presented; null in a no: nobody's. */
export type Evaluation<T = Holder> =
  | { readonly denial: null; readonly holder: T }
  | { readonly denial: Denial; readonly holder: T | null };

/** Whose key it is, and the version whose secret was presented. */
export interface Holder {
  readonly facts: CachedKey;
  readonly version: KeyVersion;
}

/** No secret of the key was presented, or there is no such key. */
export const UNAUTHENTICATED: Evaluation<never> = { denial: { code: 'unknown' }, holder: null };

/** Pure. `version` is the one that was matched, null: none. `tokenDenial` is what a token says against its own use. */
export function evaluate(
  facts: CachedKey | null,
  version: KeyVersion | null,
  access: AccessRequest,
  now: Instant,
  tokenDenial: Denial | null = null,
): Evaluation {
  if (facts === null || version === null) return UNAUTHENTICATED;
  const denial = decide(facts, version, access, now, tokenDenial);
  // What belongs to another tenant does not exist (I10), even where a secret of it was presented.
  if (denial?.code === 'unknown') return { denial, holder: null };
  return { denial, holder: { facts, version } };
}

/**
 * Each round: `find`, decide as of `now`, `settles`; and where limits are asked, `limitsBefore`, `settlesLimits`. Where
 * `settles` or `settlesLimits` returns false, `find` is called again.
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
  /** A no must have been confirmed at or after this. */
  #arrived: Moment;
  /** Ends when what this node knows was confirmed; null: nothing has to be waited for. */
  #confirming: Promise<void> | null;
  #rounds = 0;
  #found: LookupResult | null = null;
  #foundAt: Moment;
  /** The other time by which a yes must hold, while that is decided; null: the clock is not in doubt. */
  #doubted: Instant | null = null;
  /** What the limits took. */
  #admitted: LimitDecision | null = null;
  /** The first refusal by limits that had not been confirmed. */
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

  /** The time to decide by. */
  get now(): Instant {
    return this.#doubted ?? this.#foundAt.wallMs;
  }

  /**
   * The facts to decide on. Not a promise where they are in memory and nothing has to be confirmed first.
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
      detail: 'The facts changed faster than they could be confirmed.',
      retryAfterSeconds: 1,
    });
  }

  /**
   * A key whose rows do not open gives no verdict to its holder, nor, where its secrets do not open either, to anybody: it
   * could be a false no.
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
   * Whether the decision may be answered. False: call `find` and decide again.
   *
   * @throws PantheonError `clock_in_doubt`; `store_unavailable` when the limits have admitted it and it is a no by now.
   */
  settles({ denial, holder }: Evaluation<unknown>): boolean {
    if (denial === null && this.#mustHoldInDoubt()) return false;
    if (denial !== null && this.#doubted !== null) throw clockInDoubt();
    this.#doubted = null;
    if (denial !== null && holder === null && this.#result.wasRead) this.#lookup.charge(this.#sender);
    if (!this.#mayAnswer(denial)) {
      // A yes must be young now; for a no it is enough that it was confirmed after the request arrived.
      const since = denial === null ? this.#clock.monotonicMs() : this.#arrived.monotonicMs;
      this.#confirming = this.#lookup.confirmSince(since);
      return false;
    }
    if (denial === null || this.#admitted === null) return true;
    // What the limits took is not given back: a 503 is not a verdict, so no denial has consumed anything (I8).
    throw new PantheonError('store_unavailable', { detail: 'The key changed meanwhile.', retryAfterSeconds: 1 });
  }

  #mayAnswer(denial: Denial | null): boolean {
    const { asOf, isForged } = this.#result;
    // An id with a wrong tag stays one: that needs no confirmation.
    if (isForged) return true;
    if (denial === null) return this.#lookup.isFresh(asOf, this.#foundAt);
    // Revoked never changes again.
    return denial.code === 'revoked' || this.#isConfirmed(asOf);
  }

  /** What the limits have said before about these facts; null: they have to be asked. */
  limitsBefore(facts: CachedKey): LimitDecision | null {
    if (this.#admitted !== null) return this.#admitted;
    return this.#refused?.facts === facts ? this.#refused.decision : null;
  }

  /** Whether what the limits said may be answered. False: call `find` and decide again. */
  settlesLimits(facts: CachedKey, decision: LimitDecision): boolean {
    const { asOf } = this.#result;
    if (decision.admitted) {
      // The last look before a yes: the limiter may have waited. The answer then speaks of the key as it is by now.
      if (decision === this.#admitted || this.#lookup.isFresh(asOf)) return true;
      this.#admitted = decision;
      this.#arrived = momentOf(this.#clock);
      this.#startAgain(this.#lookup.refresh(this.#arrived));
      return false;
    }
    // Limits in memory may have been raised elsewhere since: they say no only when confirmed. Asked again once at most.
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
   * The wall clock may have jumped, or it may be right and this process have stood still: what has ended by the wall clock
   * gets no yes, and no verdict either, since nobody knows. So a yes is decided by both times. True: by the other one now.
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
