/**
 * Who makes a change. A caller is who they were when their request arrived; a change is made when it is committed. So the
 * caller is looked at again, and what was found becomes a precondition of the commit. How a caller is looked at again is
 * the business of the `CallerGuard`.
 */
import type { ConfirmedCaller } from '../domain/delegation.ts';
import { PROCESS_ACTOR } from '../domain/event.ts';
import { type Action, assertMay, type Caller } from '../domain/key-policy.ts';
import type { Precondition } from '../events/ledger.ts';

/** Library code that says nothing acts as the process itself. */
export const PROCESS_CALLER: Caller = {
  authority: { kind: 'process' },
  auditContext: { actor: PROCESS_ACTOR, requestId: null, reason: null },
};

/** Who does it. */
export interface ChangeOptions {
  readonly by?: Caller;
}

/** A caller as their key is now, and what must still hold when the change is committed. */
export interface ConfirmedCall {
  readonly caller: ConfirmedCaller;
  readonly preconditions: readonly Precondition[];
}

export interface CallerGuard {
  /**
   * Looks at the caller again.
   *
   * @throws PantheonError with the code of the denial when their credential may no longer act.
   */
  confirm(by: Caller): Promise<ConfirmedCall>;
}

/** What a caller asks to do, and where. */
export interface Intent {
  readonly by: Caller;
  /** What the caller needs the permission for. Null: it takes none, or what it takes depends on what is found. */
  readonly action: Action | null;
  readonly tenantId: string;
}

/** @throws PantheonError `not_found` when the tenant is not the caller's business, `insufficient_permissions`. */
export function authorize({ action, tenantId }: Pick<Intent, 'action' | 'tenantId'>, caller: Caller): void {
  if (action !== null) assertMay(caller, action, tenantId);
}

/** The caller as they are now, who may still do it. @throws PantheonError as `confirm` and `authorize`. */
export async function confirmCaller(intent: Intent, guard: CallerGuard): Promise<ConfirmedCall> {
  const call = await guard.confirm(intent.by);
  authorize(intent, call.caller);
  return call;
}

/** For a change of many keys, which may end the caller's own: from then on the caller is as they arrived. */
export function guardUntilEnded(guard: CallerGuard, ended: ReadonlySet<string>): CallerGuard {
  return {
    confirm: async (by) => {
      const isEnded = by.authority.kind === 'key' && ended.has(by.authority.keyId);
      return isEnded ? { caller: { ...by, own: null }, preconditions: [] } : guard.confirm(by);
    },
  };
}
