/** The ids of tenants: which texts may be one, and the two that always exist. What a tenant is, is `tenant.ts`. */

/** Where root lives: its keys manage the service. */
export const SYSTEM_TENANT = 'system';
/** Where keys live when nobody says otherwise. */
export const DEFAULT_TENANT = 'default';

/** Lower case, so that two tenants never differ by case alone; no dots or slashes, so that it is safe in a path. */
export const TENANT_ID_PATTERN: RegExp = /^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$/;
