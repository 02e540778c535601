/**
 * What a caller may do to keys: which permission each action needs, what may be put on a key, and how long and from where
 * a child may act beyond its creator (not at all). Pure. The service, the command line and the library ask the same
 * questions here. The rest of what a caller may hand out is `delegation.ts`.
 */
import type { Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { isWithin } from './address.ts';
import type { PresentedCredential } from './credential.ts';
import type { AuditContext } from './event.ts';
import type { KeySettings } from './key.ts';
import { grants, isReserved, PermissionSet } from './permissions.ts';
import { SYSTEM_TENANT } from './tenant.ts';

/** Every action that needs a permission. */
export type Action =
  | 'keys.create'
  | 'keys.read'
  | 'keys.update'
  | 'keys.verify'
  | 'keys.rotate'
  | 'keys.revoke'
  | 'keys.force'
  | 'tokens.issue'
  | 'tokens.revoke'
  | 'events.read'
  | 'tenants.create'
  | 'tenants.read'
  | 'tenants.update'
  | 'tenants.suspend'
  | 'tenants.delete'
  | 'id_tags.read'
  | 'id_tags.add'
  | 'id_tags.retire'
  | 'signing_keys.add'
  | 'signing_keys.retire';

/** The permission that each action needs. The API's documents are made from this table. */
export const ACTIONS: Readonly<Record<Action, string>> = {
  'keys.create': 'pantheon:keys:create',
  'keys.read': 'pantheon:keys:read',
  'keys.update': 'pantheon:keys:update',
  'keys.verify': 'pantheon:keys:verify',
  'keys.rotate': 'pantheon:keys:rotate',
  'keys.revoke': 'pantheon:keys:revoke',
  'keys.force': 'pantheon:keys:force',
  'tokens.issue': 'pantheon:tokens:issue',
  'tokens.revoke': 'pantheon:tokens:revoke',
  'events.read': 'pantheon:events:read',
  'tenants.create': 'pantheon:tenants:create',
  'tenants.read': 'pantheon:tenants:read',
  'tenants.update': 'pantheon:tenants:update',
  'tenants.suspend': 'pantheon:tenants:suspend',
  'tenants.delete': 'pantheon:tenants:delete',
  'id_tags.read': 'pantheon:id-tags:read',
  'id_tags.add': 'pantheon:id-tags:add',
  'id_tags.retire': 'pantheon:id-tags:retire',
  'signing_keys.add': 'pantheon:signing-keys:add',
  'signing_keys.retire': 'pantheon:signing-keys:retire',
};

/** What the caller of a change may do. The process itself (library code, a job) may do everything. */
export type Authority =
  | { readonly kind: 'process' }
  | (PresentedCredential & {
      readonly kind: 'key';
      readonly keyId: string;
      /** The version that was proved. */
      readonly version: number;
      readonly tenantId: string;
      readonly permissions: readonly string[];
      readonly grantable: readonly string[];
      readonly expiresAt: Instant | null;
      readonly ipAllowlist: readonly string[];
    });

/** Who changes something, and what they may. */
export interface Caller {
  readonly authority: Authority;
  readonly auditContext: AuditContext;
}

/**
 * @throws PantheonError `not_found` when the tenant is not the caller's business (I10), `insufficient_permissions`.
 */
export function assertMay(caller: Caller, action: Action, tenantId: string): void {
  const { authority } = caller;
  if (authority.kind === 'process') return;
  if (authority.tenantId !== tenantId && authority.tenantId !== SYSTEM_TENANT) throw new PantheonError('not_found');
  if (!grants(authority.permissions, ACTIONS[action])) {
    throw new PantheonError('insufficient_permissions', { detail: `The permission ${ACTIONS[action]} is missing.` });
  }
}

/** What a key holds that somebody has to be entitled to hand out. */
export type Grants = Pick<KeySettings, 'permissions' | 'grantable'>;

/**
 * Whether the caller may hand out all of this. Also asked before acting on a key that exists: who may not grant what it
 * holds must not rotate it into their own hands.
 *
 * @throws PantheonError `not_grantable`, naming the first that may not be handed out.
 */
export function assertMayGrant(caller: Caller, holdings: Grants): void {
  const { authority } = caller;
  if (authority.kind === 'process') return;
  const held = new PermissionSet(authority.permissions);
  const grantable = new PermissionSet(authority.grantable);
  for (const [at, permission] of holdings.permissions.entries()) {
    const own = isReserved(permission) ? held : grantable;
    if (!own.grants(permission)) throw notGrantable(`permissions[${at}]`);
  }
  for (const [at, pattern] of holdings.grantable.entries()) {
    if (!grantable.grants(pattern)) throw notGrantable(`grantable[${at}]`);
  }
}

/**
 * A child outlives and outreaches nothing that limits its creator.
 *
 * @throws PantheonError `not_grantable`, naming the setting.
 */
export function assertWithinCreator(caller: Caller, settings: Pick<KeySettings, 'expiresAt' | 'ipAllowlist'>): void {
  const { authority } = caller;
  if (authority.kind === 'process') return;
  const { expiresAt, ipAllowlist } = authority;
  if (expiresAt !== null && (settings.expiresAt === null || settings.expiresAt > expiresAt))
    throw notGrantable('expiresAt');
  const bounded = settings.ipAllowlist.length > 0 && isWithin(settings.ipAllowlist, ipAllowlist);
  if (ipAllowlist.length > 0 && !bounded) throw notGrantable('ipAllowlist');
}

/**
 * Whether a change gives a key something that it did not have. Who gives must be as limited in time and place as what
 * they make by it.
 */
export function addsGrants(before: Grants, after: Grants): boolean {
  const goesBeyond = (now: readonly string[], had: readonly string[]): boolean => {
    const set = new PermissionSet(had);
    return now.some((pattern) => !set.grants(pattern));
  };
  return goesBeyond(after.permissions, before.permissions) || goesBeyond(after.grantable, before.grantable);
}

/** Whether keys with these permissions can administer: give and take every right of managing. */
export function administers(permissions: readonly string[]): boolean {
  return grants(permissions, 'pantheon:*');
}

/**
 * A key acts on itself only by its current version, and by its string: who holds an older one, or a token, must not
 * take the key over from its owner.
 *
 * @throws PantheonError `not_allowed`, `version_conflict`.
 */
export function assertProvesCurrent(caller: Caller, record: { readonly id: string; readonly version: number }): void {
  const { authority } = caller;
  if (authority.kind === 'process' || authority.keyId !== record.id) return;
  if (authority.via === 'token')
    throw new PantheonError('not_allowed', { detail: 'A token does not stand for its key here.' });
  assertNotSuperseded(caller, record);
}

/**
 * The same where a token of the current version will do, because the caller needs a permission for it: a version that was
 * replaced by a newer one, and the tokens made from it, change nothing of their own key.
 *
 * @throws PantheonError `version_conflict`.
 */
export function assertNotSuperseded(caller: Caller, record: { readonly id: string; readonly version: number }): void {
  const { authority } = caller;
  if (authority.kind === 'process' || authority.keyId !== record.id || authority.version === record.version) return;
  throw new PantheonError('version_conflict', {
    detail:
      'Only the current version may do this to its own key. Call with the current version; an administrator can retire an older one at once.',
  });
}

export function notGrantable(field: string, detail?: string): PantheonError {
  return new PantheonError('not_grantable', { field, ...(detail !== undefined && { detail }) });
}
