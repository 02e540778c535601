/**
 * A caller is who they were when their request arrived; a change is made when it is committed. In between a key can be
 * revoked, narrowed or rotated out, and a request can be made to last. So whoever changes something is looked at again,
 * and the commit stands only if their key is still as it was then.
 */
import type { Caller } from '../domain/key-policy.ts';
import { intersect } from '../domain/permissions.ts';
import { decide } from '../domain/verification.ts';
import type { RequiredRow } from '../events/ledger.ts';
import { type Clock, type Instant, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { ConfirmedFacts, Judgement } from './confirmed-facts.ts';
import type { KnownKey } from './verification-cache.ts';

/** A caller as their key is now, and what must still hold when the change is committed. */
export interface Standing {
  readonly caller: Caller;
  readonly requires: readonly RequiredRow[];
}

export class CallerGuard {
  readonly #facts: ConfirmedFacts;
  readonly #clock: Clock;

  constructor(deps: { readonly facts: ConfirmedFacts; readonly clock: Clock }) {
    this.#facts = deps.facts;
    this.#clock = deps.clock;
  }

  /**
   * Looks at the caller again.
   *
   * @throws PantheonError with the code of the denial when their key may no longer act.
   */
  async confirm(by: Caller): Promise<Standing> {
    const { authority } = by;
    if (authority.kind === 'process') return { caller: by, requires: [] };
    const arrived = momentOf(this.#clock);
    // What is remembered may be a second old, and a commit that requires a row of then would fail again and again.
    await this.#facts.confirmSince(arrived);
    const judged = await this.#facts.judge({
      keyId: authority.keyId,
      arrived,
      judge: (facts, now) => judge(by, facts, now),
      sender: { address: by.circumstances.actor.address, askedBy: null },
      isProvedBy: null,
    });
    if (!judged.yes) throw new PantheonError(judged.denial.code, { detail: 'The calling key may no longer act.' });
    // No key stands behind it: library code made it up, and that may do everything anyway.
    if (judged.proved === null) return { caller: by, requires: [] };
    const { record } = judged.proved;
    const isToken = authority.via === 'token';
    const caller: Caller = {
      ...by,
      authority: {
        ...authority,
        permissions: isToken ? intersect(record.permissions, authority.permissions) : record.permissions,
        grantable: isToken ? authority.grantable : record.grantable,
        expiresAt: earlier(authority.expiresAt, record.expiresAt),
        ipAllowlist: record.ipAllowlist,
      },
    };
    const where = { id: record.id, tenant_id: record.tenantId };
    return { caller, requires: [{ table: 'api_keys', where, revision: record.revision }] };
  }
}

function judge({ authority, circumstances }: Caller, facts: KnownKey | null, now: Instant): Judgement<KnownKey | null> {
  if (authority.kind === 'process' || facts === null) return { yes: true, proved: null };
  const version = facts.record.versions.find((one) => one.version === authority.version);
  if (version === undefined) return { yes: false, denial: { code: 'version_retired' }, proved: facts };
  const demand = { tenantId: null, environment: null, address: circumstances.actor.address, permissions: [] };
  const isOver = authority.expiresAt !== null && now >= authority.expiresAt;
  const denial = decide(facts, version, demand, now, isOver ? { code: 'expired' } : null);
  return denial === null ? { yes: true, proved: facts } : { yes: false, denial, proved: facts };
}

function earlier(one: Instant | null, other: Instant | null): Instant | null {
  return one === null || other === null ? (one ?? other) : Math.min(one, other);
}
