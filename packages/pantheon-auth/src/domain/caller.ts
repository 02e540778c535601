/**
 * Who makes a call, as its options say: a caller, or nobody, which is the process itself. What a caller may do is
 * `key-policy.ts`.
 */
import { PantheonError } from '../foundation/errors.ts';
import { assertMembers, type Members } from '../foundation/members.ts';
import { PROCESS_ACTOR } from './event.ts';
import type { Caller } from './key-policy.ts';

/** Library code that says nothing acts as the process itself. */
export const PROCESS_CALLER: Caller = {
  authority: { kind: 'process' },
  auditContext: { actor: PROCESS_ACTOR, requestId: null, reason: null },
};

/** Who does it. */
export interface ChangeOptions {
  /**
   * Left out: the process itself, which may do everything. A `by` that is there and is no caller is refused: `undefined`
   * stands for a caller that was not found, never for the process.
   */
  readonly by?: Caller;
}

/** Every option that a call may have. */
const OPTIONS: Members<
  'by' | 'signal' | 'reason' | 'cascade' | 'force' | 'settle' | 'compromised' | 'idempotencyKey' | 'ifMatch'
> = {
  by: 'has_a_value',
  signal: 'may_be_undefined',
  reason: 'may_be_undefined',
  cascade: 'may_be_undefined',
  force: 'may_be_undefined',
  settle: 'may_be_undefined',
  compromised: 'may_be_undefined',
  idempotencyKey: 'has_a_value',
  ifMatch: 'has_a_value',
};
/** Those that must be texts, with the names that errors use. */
const TEXTS = { idempotencyKey: 'Idempotency-Key', ifMatch: 'If-Match' } as const;

/**
 * The caller that the options name, and the process itself only where they name none.
 *
 * @throws PantheonError `invalid_request` for a `by` that is no caller, and as {@link assertOptions}.
 */
export function callerIn(options: ChangeOptions): Caller {
  assertOptions(options);
  if (!('by' in options)) return PROCESS_CALLER;
  assertCaller(options.by);
  return options.by;
}

/**
 * A misspelt `by` would act as the process, and an `ifMatch` that holds nothing would be no condition.
 *
 * @throws PantheonError `invalid_request`, naming the option.
 */
export function assertOptions(options: object): void {
  assertMembers(options, OPTIONS, 'options');
  for (const [name, field] of Object.entries(TEXTS)) {
    if (name in options && typeof options[name as keyof typeof options] !== 'string')
      throw new PantheonError('invalid_request', { field, detail: 'A text.' });
  }
}

/** @throws PantheonError `invalid_request` for what is not of the form that `callerOf` gives it. */
export function assertCaller(by: Caller | undefined): asserts by is Caller {
  if (isCaller(by)) return;
  const detail = 'It is no caller. Leave it out to act as the process itself.';
  throw new PantheonError('invalid_request', { field: 'by', detail });
}

function isCaller(by: Partial<Caller> | null | undefined): boolean {
  const { authority, auditContext } = by ?? {};
  if (typeof auditContext?.actor !== 'object' || auditContext.actor === null) return false;
  if (authority?.kind !== 'key') return authority?.kind === 'process';
  const { keyId, tenantId, version, permissions, grantable, ipAllowlist } = authority;
  const isNamed = typeof keyId === 'string' && typeof tenantId === 'string' && Number.isInteger(version);
  return isNamed && [permissions, grantable, ipAllowlist].every(Array.isArray);
}
