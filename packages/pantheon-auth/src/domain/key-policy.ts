/**
 * What a caller may do: the permission of each action, which permissions it may grant, and that a key it creates stays
 * within its expiry and addresses. Pure. Used by the service, the command line and the library. Further bounds are in
 * `delegation.ts`.
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
  | 'signing_keys.read'
  | 'signing_keys.add'
  | 'signing_keys.retire';

/** The permission of each action. The documents are made from this table. */
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
  'signing_keys.read': 'pantheon:signing-keys:read',
  'signing_keys.add': 'pantheon:signing-keys:add',
  'signing_keys.retire': 'pantheon:signing-keys:retire',
};

/** The rights of a caller. The process itself (library code, a job) may do everything. */
export type Authority =
  | { readonly kind: 'process' }
  | (PresentedCredential & {
      readonly kind: 'key';
      readonly keyId: string;
      /** The version whose secret matched. */
      readonly version: number;
      readonly tenantId: string;
      readonly permissions: readonly string[];
      readonly grantable: readonly string[];
      readonly expiresAt: Instant | null;
      readonly ipAllowlist: readonly string[];
    });

/** The caller of a change: its rights, and data for the audit trail. */
export interface Caller {
  readonly authority: Authority;
  readonly auditContext: AuditContext;
}

/** @throws PantheonError `not_found` when the caller may not see the tenant (I10), `insufficient_permissions`. */
export function assertMay(caller: Caller, action: Action, tenantId: string): void {
  const { authority } = caller;
  if (authority.kind === 'process') return;
  if (authority.tenantId !== tenantId && authority.tenantId !== SYSTEM_TENANT) throw new PantheonError('not_found');
  if (!grants(authority.permissions, ACTIONS[action])) {
    throw new PantheonError('insufficient_permissions', { detail: `The permission ${ACTIONS[action]} is missing.` });
  }
}

/** The permissions of a key that a caller must be allowed to grant. */
export type Grants = Pick<KeySettings, 'permissions' | 'grantable'>;

/**
 * Checks that the caller may grant all of this. Also checked before actions on an existing key, because a caller could
 * obtain its permissions by rotating it.
 *
 * @throws PantheonError `not_grantable`, naming the first permission that the caller may not grant.
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
 * Checks that a created key is within the expiry and addresses of its creator.
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

/** Whether a change gives a key permissions that it did not have. */
export function addsGrants(before: Grants, after: Grants): boolean {
  const goesBeyond = (now: readonly string[], had: readonly string[]): boolean => {
    const set = new PermissionSet(had);
    return now.some((pattern) => !set.grants(pattern));
  };
  return goesBeyond(after.permissions, before.permissions) || goesBeyond(after.grantable, before.grantable);
}

/** Whether these permissions include all management permissions. */
export function administers(permissions: readonly string[]): boolean {
  return grants(permissions, 'pantheon:*');
}

/**
 * Checks that a key acts on itself with the key string of its current version: whoever has an older one, or a token,
 * must not be able to take over the key.
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
 * The same for actions that need a permission, where a token of the current version is sufficient: a superseded
 * version, and its tokens, cannot change their own key.
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
