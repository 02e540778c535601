/** What the id of a tenant looks like. Apart from `tenant.ts`, so that who only checks one does not depend on events. */

/** Lower case, so that two tenants never differ by case alone; no dots or slashes, so that it is safe in a path. */
export const TENANT_ID_PATTERN: RegExp = /^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$/;
