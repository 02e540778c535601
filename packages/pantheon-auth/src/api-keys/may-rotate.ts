/** Whether a caller may give a key another current secret, by rotating it or by rolling it back. */
import { assertMayHandOut, type ConfirmedCaller } from '../domain/delegation.ts';
import type { KeyRecord } from '../domain/key.ts';
import { assertProvesCurrent, type Caller } from '../domain/key-policy.ts';

/**
 * The new secret gives all rights of the key. So the caller must be allowed to grant all of them, except when a key rotates
 * itself.
 */
export function assertMayRotate(by: ConfirmedCaller, record: KeyRecord): void {
  if (isItself(by, record)) assertProvesCurrent(by, record);
  else assertMayHandOut(by, record);
}

function isItself({ authority }: Caller, record: KeyRecord): boolean {
  return authority.kind === 'key' && authority.keyId === record.id;
}
