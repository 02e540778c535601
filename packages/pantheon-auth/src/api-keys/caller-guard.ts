/**
 * Confirms the caller of a change or a read. Between the arrival of a request and its commit, the caller's key can be revoked,
 * restricted or rotated, its secret replaced, its tenant suspended, its token revoked or the signing key retired. A
 * caller could also delay its request on purpose. So the caller is read again before the change, and what was read
 * becomes a precondition of the commit. Before the answer to a read it is looked up again in the same way.
 */
import { type CallerGuard, type ConfirmedCall, type FactsNeeded, unconditional } from '../commands/caller.ts';
import type { PresentedToken } from '../domain/credential.ts';
import type { ConfirmedCaller } from '../domain/delegation.ts';
import type { KeyVersion } from '../domain/key.ts';
import type { Authority, Caller } from '../domain/key-policy.ts';
import { intersect } from '../domain/permissions.ts';
import { endOfVersion } from '../domain/token-life.ts';
import { type Denial, decide } from '../domain/verification.ts';
import type { Precondition } from '../events/ledger.ts';
import { type Clock, earlier, type Instant, type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import type { KeyLookup } from '../verification/key-lookup.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import { keyAsRead } from './key-storage.ts';
import { type Evaluation, VerificationAttempt } from './verification-attempt.ts';

/** Checks of tokens that were accepted earlier. */
interface AcceptedTokens {
  /** Why this token is no longer valid although its key is; null: it is valid. */
  endOfAccepted(token: PresentedToken, facts: CachedKey, version: KeyVersion): Denial | null;
  /** Preconditions for the token besides the row of its key. */
  preconditionsOf(token: PresentedToken, keyId: string): readonly Precondition[];
}

export class KeyCallerGuard implements CallerGuard {
  readonly #lookup: KeyLookup;
  readonly #tokens: AcceptedTokens;
  readonly #clock: Clock;

  constructor(deps: { readonly lookup: KeyLookup; readonly tokens: AcceptedTokens; readonly clock: Clock }) {
    this.#lookup = deps.lookup;
    this.#tokens = deps.tokens;
    this.#clock = deps.clock;
  }

  async confirm(by: Caller, facts: FactsNeeded = 'latest'): Promise<ConfirmedCall> {
    const { authority } = by;
    if (authority.kind === 'process') return unconditional(by);
    const { holder, asOf } = await this.#lookAgain(by, authority, facts);
    const { record, tenant } = holder;
    const isToken = authority.via === 'token';
    const caller: ConfirmedCaller = {
      ...by,
      own: record,
      authority: {
        ...authority,
        permissions: isToken ? intersect(record.permissions, authority.permissions) : record.permissions,
        grantable: isToken ? authority.grantable : record.grantable,
        // Keys that a superseded version creates expire with it: otherwise such a key could act on its creator later.
        expiresAt: earlier(authority.expiresAt, endOfVersion(record, authority.version)),
        ipAllowlist: record.ipAllowlist,
      },
    };
    const tokenPreconditions =
      authority.via === 'token' ? this.#tokens.preconditionsOf(authority.token, record.id) : [];
    const preconditions = [keyAsRead(record), tenantAsRead(tenant), ...tokenPreconditions];
    return { caller, preconditions, isFresh: () => this.#lookup.isFresh(asOf) };
  }

  /** Looks up the caller's key as it is now, or as it was true at `asOf`. */
  async #lookAgain(
    { auditContext }: Caller,
    authority: KeyAuthority,
    needed: FactsNeeded,
  ): Promise<{ readonly holder: CachedKey; readonly asOf: Moment }> {
    const { address } = auditContext.actor;
    const arrived = momentOf(this.#clock);
    // Facts in memory may be a second old, and a commit with the revision of an outdated row would fail repeatedly.
    if (needed === 'latest') await this.#lookup.confirmSince(arrived.monotonicMs);
    const sender = { address, askedBy: null };
    const deps = { lookup: this.#lookup, clock: this.#clock };
    const attempt = new VerificationAttempt(deps, authority.keyId, { arrived, sender });
    for (;;) {
      const { facts, asOf } = await attempt.find();
      // True, because the secret was matched when the request arrived.
      attempt.assertReadable(true);
      const evaluation = this.#evaluate(authority, facts, address, attempt.now);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial === null) return { holder: evaluation.holder, asOf };
      const { code } = evaluation.denial;
      // When no secret matches any more, the caller gets `invalid_key`, as at authentication.
      throw new PantheonError(code === 'unknown' ? 'invalid_key' : code, {
        detail: 'The key or token of the caller is no longer valid.',
      });
    }
  }

  #evaluate(
    authority: KeyAuthority,
    facts: CachedKey | null,
    address: string | null,
    now: Instant,
  ): Evaluation<CachedKey> {
    // The key may be missing, as after a failover that lost its creation. Then the caller may do nothing.
    if (facts === null) return { denial: { code: 'unknown' }, holder: null };
    const version = facts.record.versions.find((one) => one.version === authority.version);
    if (version === undefined) return { denial: { code: 'version_retired' }, holder: facts };
    const access = { tenantId: null, environment: null, address, permissions: [] };
    const denial = decide(facts, version, access, now, this.#endOf(authority, facts, version, now));
    return { denial, holder: facts };
  }

  /** Why the presented credential is no longer valid although its key is. */
  #endOf(authority: KeyAuthority, facts: CachedKey, version: KeyVersion, now: Instant): Denial | null {
    if (authority.expiresAt !== null && now >= authority.expiresAt) return { code: 'expired' };
    if (authority.via === 'token') return this.#tokens.endOfAccepted(authority.token, facts, version);
    // The secret was replaced, so the presented string belongs to no key any more.
    return authority.secretMadeAt === version.createdAt ? null : { code: 'unknown' };
  }
}

type KeyAuthority = Extract<Authority, { readonly kind: 'key' }>;
