/**
 * A caller is who they were when their request arrived; a change is made when it is committed. In between a key can be
 * revoked, narrowed or rotated out, its secret replaced, its tenant suspended; a token can be revoked, or its signing key
 * retired; and a request can be made to last. So whoever changes something is looked at again, and the commit stands only
 * if all of that is still as it was then.
 */
import type { CallerGuard, ConfirmedCall } from '../commands/caller.ts';
import type { PresentedToken } from '../domain/credential.ts';
import type { ConfirmedCaller } from '../domain/delegation.ts';
import type { KeyVersion } from '../domain/key.ts';
import type { Authority, Caller } from '../domain/key-policy.ts';
import { intersect } from '../domain/permissions.ts';
import { type Denial, decide } from '../domain/verification.ts';
import type { Precondition } from '../events/ledger.ts';
import { type Clock, type Instant, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import type { KeyLookup } from '../verification/key-lookup.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import { keyAsRead } from './key-storage.ts';
import { type Evaluation, VerificationAttempt } from './verification-attempt.ts';

/** What is known of tokens that were accepted earlier. */
interface AcceptedTokens {
  /** What ends this token although its key goes on. */
  endOfAccepted(token: PresentedToken, facts: CachedKey, version: KeyVersion): Denial | null;
  /** What must hold of it besides the row of its key. */
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

  async confirm(by: Caller): Promise<ConfirmedCall> {
    const { authority } = by;
    if (authority.kind === 'process') return { caller: { ...by, own: null }, preconditions: [] };
    const holder = await this.#lookAgain(by, authority);
    const { record, tenant } = holder;
    const isToken = authority.via === 'token';
    // What a version makes that was superseded ends with it: a child that outlives it could act on its key for it.
    const accepted = record.versions.find((one) => one.version === authority.version)?.acceptedUntil ?? null;
    const caller: ConfirmedCaller = {
      ...by,
      own: record,
      authority: {
        ...authority,
        permissions: isToken ? intersect(record.permissions, authority.permissions) : record.permissions,
        grantable: isToken ? authority.grantable : record.grantable,
        expiresAt: earlier(accepted, earlier(authority.expiresAt, record.expiresAt)),
        ipAllowlist: record.ipAllowlist,
      },
    };
    const tokenPreconditions =
      authority.via === 'token' ? this.#tokens.preconditionsOf(authority.token, record.id) : [];
    return { caller, preconditions: [keyAsRead(record), tenantAsRead(tenant), ...tokenPreconditions] };
  }

  /** The key of the caller as it is now. */
  async #lookAgain({ auditContext }: Caller, authority: KeyAuthority): Promise<CachedKey> {
    const { address } = auditContext.actor;
    const arrived = momentOf(this.#clock);
    // What is in memory may be a second old, and a commit that requires a row of then would fail again and again.
    await this.#lookup.confirmSince(arrived.monotonicMs);
    const sender = { address, askedBy: null };
    const deps = { lookup: this.#lookup, clock: this.#clock };
    const attempt = new VerificationAttempt(deps, authority.keyId, { arrived, sender });
    for (;;) {
      const { facts } = await attempt.find();
      // The secret was matched when the request arrived.
      attempt.assertReadable(true);
      const evaluation = this.#evaluate(authority, facts, address, attempt.now);
      if (!attempt.settles(evaluation)) continue;
      if (evaluation.denial === null) return evaluation.holder;
      const { code } = evaluation.denial;
      // Where no secret matches any more it is told as at the edge.
      throw new PantheonError(code === 'unknown' ? 'invalid_key' : code, { detail: 'The caller may no longer act.' });
    }
  }

  #evaluate(
    authority: KeyAuthority,
    facts: CachedKey | null,
    address: string | null,
    now: Instant,
  ): Evaluation<CachedKey> {
    // A key that is not there, as after a failover that lost its creation, bounds nothing and may do nothing.
    if (facts === null) return { denial: { code: 'unknown' }, holder: null };
    const version = facts.record.versions.find((one) => one.version === authority.version);
    if (version === undefined) return { denial: { code: 'version_retired' }, holder: facts };
    const access = { tenantId: null, environment: null, address, permissions: [] };
    const denial = decide(facts, version, access, now, this.#endOf(authority, facts, version, now));
    return { denial, holder: facts };
  }

  /** What ends the credential that was presented, although its key goes on. */
  #endOf(authority: KeyAuthority, facts: CachedKey, version: KeyVersion, now: Instant): Denial | null {
    if (authority.expiresAt !== null && now >= authority.expiresAt) return { code: 'expired' };
    if (authority.via === 'token') return this.#tokens.endOfAccepted(authority.token, facts, version);
    // Replaced: the string that was presented is of no key any more.
    return authority.secretMadeAt === version.createdAt ? null : { code: 'unknown' };
  }
}

type KeyAuthority = Extract<Authority, { readonly kind: 'key' }>;

function earlier(one: Instant | null, other: Instant | null): Instant | null {
  return one === null || other === null ? (one ?? other) : Math.min(one, other);
}
