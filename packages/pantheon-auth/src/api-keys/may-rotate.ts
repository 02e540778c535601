/** Whether a caller may give a key another current secret: by rotating it, or by undoing a rotation. */
import { assertMayHandOut, type ConfirmedCaller } from '../domain/delegation.ts';
import type { KeyRecord } from '../domain/key.ts';
import { assertProvesCurrent, type Caller } from '../domain/key-policy.ts';

/**
 * A new secret is as good as a new key, so the key must be within the bounds of the caller. A key may rotate itself.
 */
export function assertMayRotate(by: ConfirmedCaller, record: KeyRecord): void {
  if (isItself(by, record)) assertProvesCurrent(by, record);
  else assertMayHandOut(by, record);
}

function isItself({ authority }: Caller, record: KeyRecord): boolean {
  return authority.kind === 'key' && authority.keyId === record.id;
}
