/** The request to verify a key, and its validation. A malformed request is an error, not a denial. */
import { normalAddress } from '../domain/address.ts';
import type { AppTypes, Permission } from '../domain/app-types.ts';
import { ANY_ENVIRONMENT, type Environment } from '../domain/key.ts';
import { isPermission } from '../domain/permissions.ts';
import { ANY_TENANT, DEFAULT_TENANT } from '../domain/tenant.ts';
import type { AccessRequest } from '../domain/verification.ts';
import type { Moment } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { assertMembers, type Members } from '../foundation/members.ts';
import { COST_MAX } from '../rate-limit/rate-limiter.ts';
import { type Sender, senderOf } from '../verification/sender.ts';

export interface VerifyRequest<App extends AppTypes = AppTypes> {
  /** The presented key string. Any value is allowed; one that is not a key string is denied as `malformed`. */
  readonly key: string;
  /** The key must have all of these permissions. */
  readonly permissions?: readonly Permission<App>[];
  /** The IP address of the client. Without it a key with an IP allowlist is denied. */
  readonly ip?: string | null;
  /** Default `live`; {@link ANY_ENVIRONMENT} accepts both. */
  readonly environment?: Environment | typeof ANY_ENVIRONMENT;
  /** Default `default`; {@link ANY_TENANT} accepts keys of every tenant. */
  readonly tenant?: string | typeof ANY_TENANT;
  /** Units to take from every limit; 0 checks the limits without consuming. Default: 1. */
  readonly cost?: number;
  /**
   * An id of the party that reports `ip`, if the request does not come from `ip` directly: for example the id of the
   * key that calls your API. Failures are then counted for the pair of this id and `ip`, because that party could
   * report any address. Default: none.
   */
  readonly askedBy?: string;
}

/** Members that a request about a key and one about a token share. Those that narrow must not be `undefined`. */
const ASKED: Members<Exclude<keyof VerifyRequest, 'key'>> = {
  permissions: 'has_a_value',
  tenant: 'has_a_value',
  environment: 'has_a_value',
  ip: 'may_be_undefined',
  cost: 'may_be_undefined',
  askedBy: 'may_be_undefined',
};

/** Members of a request to verify a key. */
export const KEY_REQUEST: Members<keyof VerifyRequest> = { key: 'may_be_undefined', ...ASKED };
/** Members of a request to verify a token. */
export const TOKEN_REQUEST: Members<keyof typeof ASKED | 'token' | 'audience' | 'audienceOnly'> = {
  token: 'may_be_undefined',
  ...ASKED,
  audience: 'has_a_value',
  audienceOnly: 'has_a_value',
};

/** A parsed request to verify a key or token. */
export interface KeyUse {
  readonly arrived: Moment;
  readonly access: AccessRequest;
  /** Units to take from every limit. */
  readonly cost: number;
  readonly sender: Sender;
}

/**
 * Validates the request. A malformed permission is an error, not a denial, and so is a member that is not one of
 * `members`: with a misspelt `permissions` no permission would be required.
 *
 * @throws PantheonError `invalid_request`.
 */
export function toKeyUse(request: Omit<VerifyRequest, 'key'>, members: Members<string>, arrived: Moment): KeyUse {
  assertMembers(request, members, 'request');
  const access = toAccessRequest(request);
  const cost = toCost(request.cost);
  return { arrived, access, cost, sender: senderOf(request, access.address) };
}

function toAccessRequest(request: Omit<VerifyRequest, 'key' | 'cost'>): AccessRequest {
  const { permissions = [], ip = null, environment = 'live', tenant = DEFAULT_TENANT } = request;
  if (!Array.isArray(permissions)) throw invalid('permissions', 'Must be a list, such as ["docs:read"].');
  for (const [at, permission] of permissions.entries()) {
    if (!isPermission(permission))
      throw invalid(`permissions[${at}]`, 'Name permissions such as docs:read, not patterns.');
  }
  const address = typeof ip === 'string' ? normalAddress(ip) : null;
  return { tenantId: toTenantId(tenant), environment: toEnvironment(environment), address, permissions };
}

/** Null: any tenant. Only the symbol means that, because any text may be the id of a tenant. */
function toTenantId(tenant: unknown): string | null {
  if (tenant === ANY_TENANT) return null;
  if (typeof tenant === 'string') return tenant;
  throw invalid('tenant', 'Must be the id of a tenant, or ANY_TENANT.');
}

/** Null: any environment. */
function toEnvironment(environment: unknown): Environment | null {
  if (environment === ANY_ENVIRONMENT) return null;
  if (environment === 'live' || environment === 'test') return environment;
  throw invalid('environment', 'Must be live, test, or ANY_ENVIRONMENT.');
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}

function toCost(cost = 1): number {
  if (Number.isSafeInteger(cost) && cost >= 0 && cost <= COST_MAX) return cost;
  throw invalid('cost', `A cost is a whole number from 0 to ${COST_MAX}.`);
}
