/** The record of a tenant, and how events change it. */
import type { Instant } from '../foundation/clock.ts';
import type { Json } from '../foundation/encoding.ts';
import { assertNever, invariant, PantheonError } from '../foundation/errors.ts';
import type { EventAbout } from './event.ts';

/** The tenant of the root key, whose keys manage the service. */
export const SYSTEM_TENANT = 'system';
/** The default tenant of keys. */
export const DEFAULT_TENANT = 'default';

/**
 * Instead of a tenant id: accept keys of every tenant. A symbol, because any text may be the id of a tenant, and no
 * request or row can contain a symbol.
 */
export const ANY_TENANT: unique symbol = Symbol.for('pantheon-auth.any-tenant');

export const TENANT_STATES = ['active', 'suspended', 'deleted'] as const;
export type TenantState = (typeof TENANT_STATES)[number];

export interface TenantRecord {
  readonly id: string;
  readonly name: string;
  readonly state: TenantState;
  /** Audiences that its keys may have in addition to those of the service; null: none. */
  readonly audiences: readonly string[] | null;
  readonly createdAt: Instant;
  readonly revision: number;
}

/** Applies an event to a tenant. Replaying all events of a tenant gives its record. */
export function evolveTenant(tenant: TenantRecord | null, event: EventAbout<'tenant'>): TenantRecord {
  if (event.type === 'tenant.created') {
    invariant(tenant === null, 'a tenant is created once');
    return {
      id: event.subject.id,
      name: nameOr(event.after?.name, event.subject.id),
      state: 'active',
      audiences: audiencesOr(event.after?.audiences, null),
      createdAt: event.at,
      revision: 1,
    };
  }
  invariant(tenant !== null, 'a tenant is created before it changes');
  const revision = tenant.revision + 1;
  // Deletion is final: a later event must not make its keys valid again (I6).
  if (tenant.state === 'deleted') return { ...tenant, revision };
  switch (event.type) {
    case 'tenant.updated':
      return {
        ...tenant,
        revision,
        name: nameOr(event.after?.name, tenant.name),
        audiences: audiencesOr(event.after?.audiences, tenant.audiences),
      };
    case 'tenant.suspended':
      return { ...tenant, revision, state: 'suspended' };
    case 'tenant.resumed':
      return { ...tenant, revision, state: 'active' };
    case 'tenant.deleted':
      return { ...tenant, revision, state: 'deleted' };
    case 'unknown':
      throw new Error(`Not an event of a tenant: ${event.saidType}`);
    default:
      return assertNever(event);
  }
}

/**
 * No secret is created in a suspended tenant, because it would be valid as soon as the tenant is resumed.
 *
 * @throws PantheonError `not_found` when there is none or it was deleted, `not_allowed`.
 */
export function assertTenantActive(tenant: TenantRecord | null): asserts tenant is TenantRecord {
  if (tenant === null || tenant.state === 'deleted') throw new PantheonError('not_found', { field: 'tenant' });
  if (tenant.state !== 'active')
    throw new PantheonError('not_allowed', { field: 'tenant', detail: 'The tenant is suspended.' });
}

/** Null removes them; an event without them leaves them unchanged. */
function audiencesOr(audiences: Json | undefined, otherwise: readonly string[] | null): readonly string[] | null {
  return audiences === undefined ? otherwise : (audiences as readonly string[] | null);
}

/** The name is personal and may have been erased from the log. Then the id is used. */
function nameOr(name: unknown, otherwise: string): string {
  return typeof name === 'string' ? name : otherwise;
}
