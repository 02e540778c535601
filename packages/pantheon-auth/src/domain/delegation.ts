/** What a caller may make of a key by changing it. Pure. */
import { PantheonError } from '../foundation/errors.ts';
import type { KeyRecord, KeySettings } from './key.ts';
import { assertMayGrant, assertWithinCreator, type Caller, widens } from './key-policy.ts';

const SELF_SETTINGS: ReadonlySet<string> = new Set(['name', 'description', 'metadata']);

/** New holdings lie within what the caller may hand out, new bounds within the caller's own; nobody widens itself. */
export function assertMayChange(by: Caller, record: KeyRecord, settings: KeySettings): void {
  assertMayGrant(by, settings);
  const { authority } = by;
  if (authority.kind === 'process') return;
  const names = Object.keys(settings) as (keyof KeySettings)[];
  const changed = names.filter((name) => JSON.stringify(settings[name]) !== JSON.stringify(record[name]));
  const beyond = authority.keyId === record.id ? changed.find((name) => !SELF_SETTINGS.has(name)) : undefined;
  if (beyond !== undefined)
    throw new PantheonError('not_allowed', { field: beyond, detail: 'A key does not change its own policy.' });
  const isMoved = changed.includes('expiresAt') || changed.includes('ipAllowlist');
  if (isMoved || widens(record, settings)) assertWithinCreator(by, settings);
}
