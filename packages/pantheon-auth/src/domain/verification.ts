/**
 * Decides whether a matched credential may act now. Pure: no clock, no I/O, no `await`. Used for API keys and tokens,
 * cached or not, so the results are the same.
 */

import type { Instant } from '../foundation/clock.ts';
import type { DenialCode } from '../foundation/codes.ts';
import type { AddressRanges } from './address.ts';
import type { Environment, KeyRecord, KeyVersion } from './key.ts';
import { grants, PermissionSet } from './permissions.ts';
import type { TenantRecord } from './tenant.ts';

/** The record without members that are only displayed. */
export type DecisiveRecord = Omit<KeyRecord, 'description' | 'metadata'>;

/** The facts that a decision needs. The cache holds these, never a result (I5). */
export interface KeyFacts {
  readonly record: DecisiveRecord;
  readonly tenant: TenantRecord;
  /** Null: any address. */
  readonly addresses: AddressRanges | null;
}

/** The request: required permissions, tenant, environment and address. */
export interface AccessRequest {
  /** The tenant whose keys are accepted; null: any. */
  readonly tenantId: string | null;
  /** The environment whose keys are accepted; null: any. */
  readonly environment: Environment | null;
  readonly address: string | null;
  readonly permissions: readonly string[];
}

/** An expected "no", told apart by its `code`. Some codes carry data of their own. */
export type Denial =
  | { readonly code: Exclude<DenialCode, 'insufficient_permissions' | LimitDenialCode> }
  /** `missing`: the first permission that is lacking. */
  | { readonly code: 'insufficient_permissions'; readonly missing: string }
  /** `violated`: the names of the limits in the way. */
  | { readonly code: LimitDenialCode; readonly violated: readonly string[] };

type LimitDenialCode = 'rate_limited' | 'quota_exceeded';

/**
 * Returns the denial, or null if the credential may act. The order is part of the contract: first, a key of another
 * tenant does not exist; then permanent reasons before temporary ones, so that a revoked key does not reveal its
 * permissions. `tokenDenial`: the denial by the token's own claims, returned after the reasons that end the key.
 */
export function decide(
  facts: KeyFacts,
  version: KeyVersion,
  access: AccessRequest,
  now: Instant,
  tokenDenial: Denial | null = null,
): Denial | null {
  const { record, tenant } = facts;
  if (access.tenantId !== null && access.tenantId !== record.tenantId) return { code: 'unknown' };
  if (tenant.state === 'deleted') return { code: 'unknown' };
  if (record.state.kind === 'revoked') return { code: 'revoked' };
  if (record.expiresAt !== null && now >= record.expiresAt) return { code: 'expired' };
  if (version.acceptedUntil !== null && now >= version.acceptedUntil) return { code: 'version_retired' };
  if (tokenDenial !== null) return tokenDenial;
  if (record.state.kind === 'suspended' || tenant.state === 'suspended') return { code: 'suspended' };
  if (record.notBefore !== null && now < record.notBefore) return { code: 'not_yet_active' };
  if (access.environment !== null && access.environment !== record.environment) return { code: 'environment_mismatch' };
  if (facts.addresses !== null && !addressAllowed(facts.addresses, access.address)) return { code: 'ip_not_allowed' };
  return decidePermissions(record.permissions, access.permissions);
}

/** With this many permissions building a set is faster than searching the list for each. */
const MANY_PERMISSIONS = 16;

/** Whether `held` covers all of `wanted`. The denial names the first missing permission. */
export function decidePermissions(held: readonly string[], wanted: readonly string[]): Denial | null {
  const set = wanted.length < MANY_PERMISSIONS ? null : new PermissionSet(held);
  for (const permission of wanted) {
    if (!(set?.grants(permission) ?? grants(held, permission)))
      return { code: 'insufficient_permissions', missing: permission };
  }
  return null;
}

/** A key with an allowlist is denied if the client address is not known. */
function addressAllowed(ranges: AddressRanges, address: string | null): boolean {
  return address !== null && ranges.contains(address);
}
