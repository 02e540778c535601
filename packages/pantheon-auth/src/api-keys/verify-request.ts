/** What is asked when a key is presented, and whether that is well formed: a mistake in the request is no denial. */
import { normalAddress } from '../domain/address.ts';
import type { AppTypes, Permission } from '../domain/app-types.ts';
import { ANY_ENVIRONMENT, type Environment } from '../domain/key.ts';
import { isPermission } from '../domain/permissions.ts';
import { ANY_TENANT, DEFAULT_TENANT } from '../domain/tenant.ts';
import type { AccessRequest } from '../domain/verification.ts';
import type { Moment } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { COST_MAX } from '../rate-limit/rate-limiter.ts';
import { type Sender, senderOf } from '../verification/sender.ts';

export interface VerifyRequest<App extends AppTypes = AppTypes> {
  /** What was presented. Anything is allowed: what is not a key is `malformed`, also what is not a string. */
  readonly key: string;
  /** All of these must be covered. */
  readonly permissions?: readonly Permission<App>[];
  /** Where the request comes from. Needed by keys that are bound to addresses. */
  readonly ip?: string | null;
  /** Default `live`; {@link ANY_ENVIRONMENT} accepts both. */
  readonly environment?: Environment | typeof ANY_ENVIRONMENT;
  /** Default `default`; {@link ANY_TENANT} accepts keys of every tenant. */
  readonly tenant?: string | typeof ANY_TENANT;
  /** Units to take from every limit; 0 asks without consuming. Default 1. */
  readonly cost?: number;
  /**
   * Who asks, where that is somebody else than `ip`: the id of the key that calls your API, say. `ip` is then only their
   * word, and what is counted per address is counted for the two together. Default: nobody stands between.
   */
  readonly askedBy?: string;
}

/** What is asked about a credential, whatever kind it is of. */
export interface KeyUse {
  readonly arrived: Moment;
  readonly access: AccessRequest;
  /** Units to take from every limit. */
  readonly cost: number;
  readonly sender: Sender;
}

/**
 * Checks what is asked: a permission that is not well formed is a mistake of the caller, not a denial.
 *
 * @throws PantheonError `invalid_request`.
 */
export function toKeyUse(request: Omit<VerifyRequest, 'key'>, arrived: Moment): KeyUse {
  const access = toAccessRequest(request);
  const cost = toCost(request.cost);
  return { arrived, access, cost, sender: senderOf(request, access.address) };
}

function toAccessRequest(request: Omit<VerifyRequest, 'key' | 'cost'>): AccessRequest {
  const { permissions = [], ip = null, environment = 'live', tenant = DEFAULT_TENANT } = request;
  if (!Array.isArray(permissions)) throw invalid('permissions', 'A list, such as ["docs:read"].');
  for (const [at, permission] of permissions.entries()) {
    if (!isPermission(permission))
      throw invalid(`permissions[${at}]`, 'Ask for concrete permissions such as docs:read.');
  }
  const address = typeof ip === 'string' ? normalAddress(ip) : null;
  return { tenantId: toTenantId(tenant), environment: toEnvironment(environment), address, permissions };
}

/** Null: of any tenant. Only the symbol means that, never a text: a tenant may have any name. */
function toTenantId(tenant: unknown): string | null {
  if (tenant === ANY_TENANT) return null;
  if (typeof tenant === 'string') return tenant;
  throw invalid('tenant', 'The id of a tenant, or ANY_TENANT.');
}

/** Null: of any environment. */
function toEnvironment(environment: unknown): Environment | null {
  if (environment === ANY_ENVIRONMENT) return null;
  if (environment === 'live' || environment === 'test') return environment;
  throw invalid('environment', 'live, test, or ANY_ENVIRONMENT.');
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}

function toCost(cost = 1): number {
  if (Number.isSafeInteger(cost) && cost >= 0 && cost <= COST_MAX) return cost;
  throw invalid('cost', `A cost is a whole number from 0 to ${COST_MAX}.`);
}
