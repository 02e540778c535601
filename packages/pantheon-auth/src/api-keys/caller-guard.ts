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
import type { ConfirmedFacts, Judgement } from './confirmed-facts.ts';
import { keyAsRead } from './key-storage.ts';
import type { KnownKey } from './verification-cache.ts';

/** What is known of tokens that were accepted earlier. */
interface AcceptedTokens {
  /** What ends this token although its key goes on. */
  endOfAccepted(token: PresentedToken, facts: KnownKey, version: KeyVersion): Denial | null;
  /** What must hold of it besides the row of its key. */
  preconditionsOf(token: PresentedToken, keyId: string): readonly Precondition[];
}

export class KeyCallerGuard implements CallerGuard {
  readonly #facts: ConfirmedFacts;
  readonly #tokens: AcceptedTokens;
  readonly #clock: Clock;

  constructor(deps: { readonly facts: ConfirmedFacts; readonly tokens: AcceptedTokens; readonly clock: Clock }) {
    this.#facts = deps.facts;
    this.#tokens = deps.tokens;
    this.#clock = deps.clock;
  }

  async confirm(by: Caller): Promise<ConfirmedCall> {
    const { authority } = by;
    if (authority.kind === 'process') return { caller: { ...by, own: null }, preconditions: [] };
    const arrived = momentOf(this.#clock);
    // What is remembered may be a second old, and a commit that requires a row of then would fail again and again.
    await this.#facts.confirmSince(arrived);
    const judged = await this.#facts.judge({
      keyId: authority.keyId,
      arrived,
      judge: (facts, now) => this.#judge(by, facts, now),
      sender: { address: by.auditContext.actor.address, askedBy: null },
      isProvedBy: null,
    });
    if (!judged.yes) {
      const { code } = judged.denial;
      // What proves nothing any more is told as at the edge.
      throw new PantheonError(code === 'unknown' ? 'invalid_key' : code, { detail: 'The caller may no longer act.' });
    }
    // No key stands behind it: library code made it up, and that may do everything anyway.
    if (judged.proved === null) return { caller: { ...by, own: null }, preconditions: [] };
    const { record, tenant } = judged.proved;
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
    const ofToken = authority.via === 'token' ? this.#tokens.preconditionsOf(authority.token, record.id) : [];
    return { caller, preconditions: [keyAsRead(record), tenantAsRead(tenant), ...ofToken] };
  }

  #judge({ authority, auditContext }: Caller, facts: KnownKey | null, now: Instant): Judgement<KnownKey | null> {
    if (authority.kind === 'process' || facts === null) return { yes: true, proved: null };
    const version = facts.record.versions.find((one) => one.version === authority.version);
    if (version === undefined) return { yes: false, denial: { code: 'version_retired' }, proved: facts };
    const demand = { tenantId: null, environment: null, address: auditContext.actor.address, permissions: [] };
    const denial = decide(facts, version, demand, now, this.#endOf(authority, facts, version, now));
    return denial === null ? { yes: true, proved: facts } : { yes: false, denial, proved: facts };
  }

  /** What ends the credential that was presented, although its key goes on. */
  #endOf(authority: KeyAuthority, facts: KnownKey, version: KeyVersion, now: Instant): Denial | null {
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
