/**
 * The caller of a change or a read: authorization, and confirmation before the commit or the answer. Between the arrival
 * of a request and its commit the caller may lose its rights, so it is confirmed again, and what was read becomes a
 * precondition of the commit. The `CallerGuard` does the reading.
 */
import { assertCaller } from '../domain/caller.ts';
import type { ConfirmedCaller } from '../domain/delegation.ts';
import { ACTIONS, type Action, assertMay, type Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Precondition } from '../events/ledger.ts';
import { invalid } from './input.ts';

/** The caller with their key as it is now, and the preconditions of the commit. */
export interface ConfirmedCall {
  readonly caller: ConfirmedCaller;
  readonly preconditions: readonly Precondition[];
  /** Whether an answer may still rest on this: what was read is at most `stalenessMax` old (I4). */
  readonly isFresh: () => boolean;
}

/**
 * Which facts a confirmation needs. `latest`: read or confirmed from now on, as for a commit. `fresh`: at most
 * `stalenessMax` old, as for any acceptance; a key in memory then needs no read.
 */
export type FactsNeeded = 'latest' | 'fresh';

export interface CallerGuard {
  /**
   * Looks up the caller's key, tenant and credential again. Default: the latest.
   *
   * @throws PantheonError with the code of the denial when their credential may no longer act.
   */
  confirm(by: Caller, facts?: FactsNeeded): Promise<ConfirmedCall>;
}

/** The requested action and its tenant. */
export interface Intent {
  readonly by: Caller;
  /** The action whose permission is needed. Null: none, or it depends on the loaded record and is checked later. */
  readonly action: Action | null;
  readonly tenantId: string;
}

/** What a caller must be allowed to do when it is confirmed: an action in a tenant. Null: nothing. */
export type Demand = { readonly action: Action; readonly tenantId: string } | null;

/** @throws PantheonError `invalid_request`: only `null` requires no permission. */
export function intentOf(by: Caller, demand: Demand): Intent {
  assertCaller(by);
  if (demand === null) return { by, action: null, tenantId: SYSTEM_TENANT };
  const { action, tenantId }: Partial<NonNullable<Demand>> = demand ?? {};
  if (typeof action !== 'string' || !Object.hasOwn(ACTIONS, action))
    throw invalid('action', 'It is not an action. Only null requires no permission.');
  if (typeof tenantId !== 'string') throw invalid('tenantId', 'The id of a tenant.');
  return { by, action, tenantId };
}

/** @throws PantheonError `not_found` when the caller may not see the tenant, `insufficient_permissions`. */
export function authorize({ action, tenantId }: Pick<Intent, 'action' | 'tenantId'>, caller: Caller): void {
  if (action !== null) assertMay(caller, action, tenantId);
}

/** Confirms the caller and checks the permission again. @throws PantheonError as `confirm` and `authorize`. */
export async function confirmCaller(
  intent: Intent,
  guard: CallerGuard,
  facts: FactsNeeded = 'latest',
): Promise<ConfirmedCall> {
  const call = await guard.confirm(intent.by, facts);
  authorize(intent, call.caller);
  return call;
}

/** For a change of many keys, which may revoke the caller's own key: after that the caller is not confirmed again. */
export function guardUntilEnded(guard: CallerGuard, ended: ReadonlySet<string>): CallerGuard {
  return {
    confirm: async (by, facts) => {
      const isEnded = by.authority.kind === 'key' && ended.has(by.authority.keyId);
      return isEnded ? unconditional(by) : guard.confirm(by, facts);
    },
  };
}

/** The call of in-process code, or of a caller that is not confirmed. */
export function unconditional(by: Caller): ConfirmedCall {
  return { caller: { ...by, own: null }, preconditions: [], isFresh: () => true };
}
