/**
 * The caller of a change: authorization, and confirmation before the commit. Between the arrival of a request and its
 * commit the caller may lose its rights, so it is confirmed again, and what was read becomes a precondition of the
 * commit. The `CallerGuard` does the reading.
 */
import type { ConfirmedCaller } from '../domain/delegation.ts';
import { PROCESS_ACTOR } from '../domain/event.ts';
import { type Action, assertMay, type Caller } from '../domain/key-policy.ts';
import type { Precondition } from '../events/ledger.ts';

/** The caller when library code names none: the process itself. */
export const PROCESS_CALLER: Caller = {
  authority: { kind: 'process' },
  auditContext: { actor: PROCESS_ACTOR, requestId: null, reason: null },
};

/** The caller of a change. */
export interface ChangeOptions {
  readonly by?: Caller;
}

/** The caller with their key as it is now, and the preconditions of the commit. */
export interface ConfirmedCall {
  readonly caller: ConfirmedCaller;
  readonly preconditions: readonly Precondition[];
}

export interface CallerGuard {
  /**
   * Reads the caller's key, tenant and credential again.
   *
   * @throws PantheonError with the code of the denial when their credential may no longer act.
   */
  confirm(by: Caller): Promise<ConfirmedCall>;
}

/** The requested action and its tenant. */
export interface Intent {
  readonly by: Caller;
  /** The action whose permission is needed. Null: none, or it depends on the loaded record and is checked later. */
  readonly action: Action | null;
  readonly tenantId: string;
}

/** @throws PantheonError `not_found` when the caller may not see the tenant, `insufficient_permissions`. */
export function authorize({ action, tenantId }: Pick<Intent, 'action' | 'tenantId'>, caller: Caller): void {
  if (action !== null) assertMay(caller, action, tenantId);
}

/** Confirms the caller and checks the permission again. @throws PantheonError as `confirm` and `authorize`. */
export async function confirmCaller(intent: Intent, guard: CallerGuard): Promise<ConfirmedCall> {
  const call = await guard.confirm(intent.by);
  authorize(intent, call.caller);
  return call;
}

/** For a change of many keys, which may revoke the caller's own key: after that the caller is not confirmed again. */
export function guardUntilEnded(guard: CallerGuard, ended: ReadonlySet<string>): CallerGuard {
  return {
    confirm: async (by) => {
      const isEnded = by.authority.kind === 'key' && ended.has(by.authority.keyId);
      return isEnded ? { caller: { ...by, own: null }, preconditions: [] } : guard.confirm(by);
    },
  };
}
