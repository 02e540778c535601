/** The options of a guard: what it demands of a credential, and the check of each when the guard is made. */
import type { AppTypes, Permission } from '../domain/app-types.ts';
import { ANY_ENVIRONMENT, type Environment } from '../domain/key.ts';
import { isPermission } from '../domain/permissions.ts';
import { ANY_TENANT } from '../domain/tenant.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Members } from '../foundation/members.ts';
import { COST_MAX } from '../rate-limit/rate-limiter.ts';

export interface AuthenticateOptions<App extends AppTypes = AppTypes> {
  /** The credential must have all of these permissions. */
  readonly permissions?: readonly Permission<App>[];
  /** Default `default`. {@link ANY_TENANT} accepts keys of every tenant. */
  readonly tenant?: string | typeof ANY_TENANT;
  /** Default `live`. {@link ANY_ENVIRONMENT} accepts both. */
  readonly environment?: Environment | typeof ANY_ENVIRONMENT;
  /** The accepted kinds of credential. Default: both. */
  readonly accept?: readonly ('api_key' | 'token')[];
  /** Accepted audiences of tokens. Default: those of the service. */
  readonly audience?: readonly string[];
  /** Whether to deny a token that also has other audiences. Default: false. */
  readonly audienceOnly?: boolean;
  /** Units to take from every limit. Default: 1. */
  readonly cost?: number;
}

/** The options of a guard. Those that narrow must not be `undefined`: the guard would accept more than was meant. */
export const DEMANDED: Members<keyof AuthenticateOptions> = {
  permissions: 'has_a_value',
  tenant: 'has_a_value',
  environment: 'has_a_value',
  accept: 'has_a_value',
  audience: 'has_a_value',
  audienceOnly: 'has_a_value',
  cost: 'may_be_undefined',
};

/**
 * Validates options when the middleware is created, so that a mistake fails the start and not each request.
 *
 * @throws PantheonError `invalid_setting`, naming the option.
 */
export function assertAuthenticateOptions(options: AuthenticateOptions): void {
  for (const [name, value] of Object.entries(options)) {
    // With a misspelt or undefined `permissions` every valid credential would be accepted.
    if (!Object.hasOwn(OPTION_CHECKS, name)) throw invalidOption(name, 'There is no such option.');
    const isLeftOut = value === undefined && DEMANDED[name as keyof AuthenticateOptions] === 'has_a_value';
    if (isLeftOut) throw invalidOption(name, 'It is undefined. Omit it or give a value.');
  }
  for (const [name, check] of Object.entries(OPTION_CHECKS)) check(options[name as keyof AuthenticateOptions], name);
  if (options.permissions?.length === 0) throw invalidOption('permissions', 'Name at least one, or omit it.');
}

/**
 * Validates the permissions that a route requires.
 *
 * @throws PantheonError `invalid_setting`, naming the malformed permission; also for an empty list, with which every
 * valid key would be accepted.
 */
export function assertPermissionsToAsk(permissions: readonly string[]): void {
  OPTION_CHECKS.permissions(permissions, 'permissions');
  if (!Array.isArray(permissions) || permissions.length === 0)
    throw invalidOption('permissions', 'Name at least one permission.');
}

/** The check of each option. `undefined` means the default. */
const OPTION_CHECKS: Readonly<Record<keyof AuthenticateOptions, (value: unknown, name: string) => void>> = {
  permissions: (value) => {
    assertList(value, 'permissions', 'Name permissions such as docs:read, not patterns.', (one) =>
      isPermission(one as string),
    );
  },
  tenant: (value) => {
    if (value !== undefined && value !== ANY_TENANT && typeof value !== 'string')
      throw invalidOption('tenant', 'Must be the id of a tenant, or ANY_TENANT.');
  },
  environment: (value) => {
    if (![undefined, 'live', 'test', ANY_ENVIRONMENT].includes(value as undefined))
      throw invalidOption('environment', 'Must be live, test, or ANY_ENVIRONMENT.');
  },
  accept: (value) => {
    assertList(value, 'accept', 'Must be api_key or token.', (one) => one === 'api_key' || one === 'token');
    if (Array.isArray(value) && value.length === 0) throw invalidOption('accept', 'Name api_key, token, or both.');
  },
  audience: (value) => {
    assertList(
      value,
      'audience',
      'An audience must be a non-empty text.',
      (one) => typeof one === 'string' && one !== '',
    );
    if (Array.isArray(value) && value.length === 0) throw invalidOption('audience', 'Name at least one audience.');
  },
  audienceOnly: (value) => {
    if (value !== undefined && typeof value !== 'boolean')
      throw invalidOption('audienceOnly', 'Must be true or false.');
  },
  cost: (value = 1) => {
    if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > COST_MAX)
      throw invalidOption('cost', `A cost is a whole number from 0 to ${COST_MAX}.`);
  },
};

function assertList(value: unknown, name: string, advice: string, isOne: (one: unknown) => boolean): void {
  if (value === undefined) return;
  if (!Array.isArray(value)) throw invalidOption(name, `Must be a list. ${advice}`);
  const wrongAt = value.findIndex((one) => !isOne(one));
  if (wrongAt !== -1) throw invalidOption(`${name}[${wrongAt}]`, advice);
}

function invalidOption(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
