/** The queue position of a read: the tenant of the caller's key, and the key. */
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { Caller } from './key-policy.ts';

/** In-process code that reads without a key. */
const PROCESS = 'process';

/** A system key that reads keys of another tenant waits in the queue of the system tenant. */
export function readerOf({ authority }: Pick<Caller, 'authority'>, tenantId: string): TurnKey {
  return authority.kind === 'key'
    ? { group: authority.tenantId, member: authority.keyId }
    : { group: tenantId, member: PROCESS };
}
