/**
 * Whether a matched credential may act now. Pure: no clock, no I/O, no `await`. Cached and fresh keys, API keys and
 * tokens all go through `decide`, so they cannot disagree.
 */

import type { Instant } from '../foundation/clock.ts';
import type { DenialCode } from '../foundation/codes.ts';
import type { AddressRanges } from './address.ts';
import type { Environment, KeyRecord, KeyVersion } from './key.ts';
import { grants, PermissionSet } from './permissions.ts';
import type { TenantRecord } from './tenant.ts';

/** Of a record, what a verdict, an answer or a token rests on: nothing that is only shown to whoever manages the key. */
export type DecisiveRecord = Omit<KeyRecord, 'description' | 'metadata'>;

/** Everything that a verdict rests on. This is what the cache holds: the input of the decision, never its result (I5). */
export interface KeyFacts {
  readonly record: DecisiveRecord;
  readonly tenant: TenantRecord;
  /** Null: from anywhere. */
  readonly addresses: AddressRanges | null;
}

/** What the credential is presented for, and from where. */
export interface AccessRequest {
  /** The tenant whose keys are accepted; null: of any tenant. */
  readonly tenantId: string | null;
  /** The environment whose keys are accepted; null: of any. */
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
 * The order is part of the contract: what belongs to somebody else does not exist; lasting facts come before passing
 * ones, so a revoked key never learns which permissions it used to have. `tokenDenial` is what a token says against itself:
 * it is told only to whom the key exists, and after what ended the key. Null: it may.
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

/** From here on a set is faster to make than the list is to go through for each. */
const MANY_PERMISSIONS = 16;

/** Whether `held` covers all of `wanted`; the denial names the first that is missing. */
export function decidePermissions(held: readonly string[], wanted: readonly string[]): Denial | null {
  const set = wanted.length < MANY_PERMISSIONS ? null : new PermissionSet(held);
  for (const permission of wanted) {
    if (!(set?.grants(permission) ?? grants(held, permission)))
      return { code: 'insufficient_permissions', missing: permission };
  }
  return null;
}

/** A key that is bound to addresses is refused when nobody can say where the request comes from. */
function addressAllowed(ranges: AddressRanges, address: string | null): boolean {
  return address !== null && ranges.contains(address);
}
