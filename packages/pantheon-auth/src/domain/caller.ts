/**
 * Reads the caller of a call from its options. Without a caller it is the process itself, which may do everything. What
 * other callers may do is in `key-policy.ts`.
 */
import { PantheonError } from '../foundation/errors.ts';
import { assertMembers, type Members } from '../foundation/members.ts';
import { PROCESS_ACTOR } from './event.ts';
import type { Caller } from './key-policy.ts';

/** The caller when library code names none: the process itself. */
export const PROCESS_CALLER: Caller = {
  authority: { kind: 'process' },
  auditContext: { actor: PROCESS_ACTOR, requestId: null, reason: null },
};

/** The caller of a call. */
export interface ChangeOptions {
  /**
   * Default: the process itself, which may do everything. A `by` that is present but is not a caller, such as `undefined`
   * or null, is refused: it is likely a caller that was not found.
   */
  readonly by?: Caller;
}

/** All options of all calls. */
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
/** Options that must be strings, with their names in errors. */
const TEXTS = { idempotencyKey: 'Idempotency-Key', ifMatch: 'If-Match' } as const;

/**
 * The caller that the options name, or the process itself if they have no `by`.
 *
 * @throws PantheonError `invalid_request` for a `by` that is not a caller, and as {@link assertOptions}.
 */
export function callerIn(options: ChangeOptions): Caller {
  assertOptions(options);
  if (!('by' in options)) return PROCESS_CALLER;
  assertCaller(options.by);
  return options.by;
}

/**
 * Refuses unknown options: with a misspelt `by` the call would run as the process, and with an undefined `ifMatch` without
 * a condition.
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

/** @throws PantheonError `invalid_request` if it does not have the form of the result of `callerOf`. */
export function assertCaller(by: Caller | undefined): asserts by is Caller {
  if (isCaller(by)) return;
  const detail = 'It is not a caller. Omit it to act as the process itself.';
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
