/**
 * What a caller may grant besides permissions: no more than its own key has. The expiry, addresses, limits, environment
 * and token lifetime of a key that it creates must be within those of its own key; user ids, custom claims and audiences are
 * restricted too. Pure. Checked whenever the caller could obtain a secret or a token, and when a key is changed.
 * Permissions are in `key-policy.ts`.
 */
import { isSameJson, type Json, type JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { isWithin } from './address.ts';
import type { KeyRecord, KeySettings } from './key.ts';
import {
  ACTIONS,
  addsGrants,
  assertMay,
  assertMayGrant,
  assertWithinCreator,
  type Caller,
  notGrantable,
} from './key-policy.ts';
import { KEY_SETTING_NAMES, KEY_SETTINGS } from './key-setting-table.ts';
import { isQuotaWithin, isRateLimitsWithin } from './limits.ts';
import { grants } from './permissions.ts';
import type { TenantRecord } from './tenant.ts';
import { lifetimeMaxSeconds } from './token-life.ts';

/** A caller with its key as it is now, as confirmed by `CallerGuard`. */
export interface ConfirmedCaller extends Caller {
  /** The settings of the caller's key. Null: a caller without a key, such as the process. */
  readonly own: Omit<KeySettings, 'description' | 'metadata'> | null;
}

/**
 * Whether the caller may obtain a secret or token of this key: when it is created, rotated, resumed, or a token is
 * issued for it.
 *
 * @throws PantheonError `not_grantable`, naming the first setting that exceeds the bounds of the caller.
 */
export function assertMayHandOut(caller: ConfirmedCaller, settings: KeySettings): void {
  if (caller.authority.kind === 'process') return;
  assertMayGrant(caller, settings);
  assertWithinBounds(caller, settings);
  assertMayName(caller, settings.userId);
  assertMayClaim(caller, claimsOf(settings), null);
}

/**
 * Whether the caller may change a key to these settings. Restricting is always allowed; after widening, the key must be
 * within the bounds of the caller.
 *
 * @throws PantheonError `not_grantable`, `not_allowed` when a key would change its own policy.
 */
export function assertMayChange(caller: ConfirmedCaller, record: KeyRecord, settings: KeySettings): void {
  const { authority } = caller;
  if (authority.kind === 'process') return;
  assertMayGrant(caller, settings);
  const changed = KEY_SETTING_NAMES.filter((name) => !isSameJson(settings[name] as Json, record[name] as Json));
  const beyond =
    authority.keyId === record.id ? changed.find((name) => !KEY_SETTINGS[name].holderMayChange) : undefined;
  if (beyond !== undefined)
    throw new PantheonError('not_allowed', { field: beyond, detail: 'A key does not change its own policy.' });
  if (changed.some((name) => WIDENS[name](record, settings))) assertWithinBounds(caller, settings);
  if (changed.includes('userId')) assertMayName(caller, settings.userId);
  assertMayNameRecipient(caller, record.tenantId, settings, record);
  // The recipient receives the next secret: then the caller must be one who may have it.
  if (changed.includes('rotation') && settings.rotation?.recipientJwk != null) assertMayHandOut(caller, settings);
  if (changed.includes('jwt')) assertMayClaim(caller, claimsOf(settings), claimsOf(record));
}

/**
 * Whoever names the recipient of a key receives its next secret, as whoever rotates it does.
 *
 * @throws PantheonError `insufficient_permissions`.
 */
export function assertMayNameRecipient(
  caller: Caller,
  tenantId: string,
  settings: Pick<KeySettings, 'rotation'>,
  before: Pick<KeySettings, 'rotation'> | null = null,
): void {
  const recipient = settings.rotation?.recipientJwk ?? null;
  if (recipient === null || isSameJson(recipient, before?.rotation?.recipientJwk)) return;
  assertMay(caller, 'keys.rotate', tenantId);
}

type Change = (before: KeySettings, after: KeySettings) => boolean;

const isWiderHolding: Change = (before, after) => addsGrants(before, after);
const decidesNothing: Change = () => false;
const always: Change = () => true;

/** For each changed setting, whether it widens the key. Removing a restriction does. */
const WIDENS: { readonly [Name in keyof KeySettings]: Change } = {
  name: decidesNothing,
  description: decidesNothing,
  metadata: decidesNothing,
  permissions: isWiderHolding,
  grantable: isWiderHolding,
  notBefore: (before, after) => (after.notBefore ?? 0) < (before.notBefore ?? 0),
  expiresAt: (before, after) => endOf(after) > endOf(before),
  ipAllowlist: (before, after) =>
    before.ipAllowlist.length > 0 &&
    (after.ipAllowlist.length === 0 || !isWithin(after.ipAllowlist, before.ipAllowlist)),
  rateLimits: (before, after) => !isRateLimitsWithin(after.rateLimits, before.rateLimits),
  quota: (before, after) => !isQuotaWithin(after.quota, before.quota),
  jwt: (before, after) =>
    lifetimeMaxSeconds(after.jwt) > lifetimeMaxSeconds(before.jwt) || !isSameJson(forWhom(before), forWhom(after)),
  // The rotation policy allows self-rotation and defines the age of secrets, so any change counts as widening.
  rotation: always,
  userId: always,
  environment: always,
};

function endOf({ expiresAt }: KeySettings): number {
  return expiresAt ?? Number.POSITIVE_INFINITY;
}

/** The token settings without the lifetime. */
function forWhom({ jwt }: KeySettings): Json {
  return jwt === null ? null : { ...jwt, ttlSeconds: 0 };
}

/** Checks that a key is bounded at least as strictly as the caller's key. */
function assertWithinBounds(caller: ConfirmedCaller, settings: KeySettings): void {
  assertWithinCreator(caller, settings);
  const { own } = caller;
  if (own === null) return;
  if (!isRateLimitsWithin(settings.rateLimits, own.rateLimits))
    throw notGrantable('rateLimits', 'For each limit of the calling key it needs one that is at least as strict.');
  if (!isQuotaWithin(settings.quota, own.quota))
    throw notGrantable('quota', 'It needs one that is at least as strict as that of the calling key.');
  if (own.environment === 'test' && settings.environment !== 'test')
    throw notGrantable('environment', 'A key of the test environment makes keys of that environment.');
  // A key without a policy for tokens bounds none, as one without limits.
  if (own.jwt !== null && lifetimeMaxSeconds(settings.jwt) > lifetimeMaxSeconds(own.jwt))
    throw notGrantable('jwt.ttl', 'Its tokens may last at most as long as those of the calling key.');
  // A claim may be a restriction (`read_only: true`), so omitting it is like omitting a limit.
  if (!mayNameOthers(caller) && !hasAllOf(claimsOf(settings), claimsOf(own)))
    throw notGrantable('jwt.customClaims', `It needs each custom claim of the calling key, with its value. ${REMEDY}`);
}

const REMEDY = `Use your own, or call with a key that holds ${ACTIONS['tokens.issue']}.`;

/** Checks the user id, which is the `sub` of tokens. */
function assertMayName(caller: ConfirmedCaller, userId: string): void {
  const own = caller.own?.userId ?? caller.auditContext.actor.userId;
  if (userId !== own && !mayNameOthers(caller))
    throw notGrantable('userId', `A key of somebody else makes tokens in their name. ${REMEDY}`);
}

/**
 * Checks custom claims, which verifiers trust. Each claim must be as before (`before`), or a claim of the caller's key,
 * and none may be removed. Claims of the caller's own key that are missing are checked with the bounds.
 */
function assertMayClaim(caller: ConfirmedCaller, claims: JsonObject, before: JsonObject | null): void {
  if (mayNameOthers(caller)) return;
  const own = claimsOf(caller.own);
  const isNew = Object.keys(claims).some((name) => !hasSame(before ?? {}, claims, name) && !hasSame(own, claims, name));
  const isGone = Object.keys(before ?? {}).some((name) => !Object.hasOwn(claims, name));
  if (isNew || isGone) throw notGrantable('jwt.customClaims', `Whoever reads a token trusts what is in it. ${REMEDY}`);
}

function claimsOf(settings: Pick<KeySettings, 'jwt'> | null): JsonObject {
  return settings?.jwt?.customClaims ?? {};
}

function hasAllOf(claims: JsonObject, needed: JsonObject): boolean {
  return Object.keys(needed).every((name) => hasSame(claims, needed, name));
}

function hasSame(one: JsonObject, other: JsonObject, name: string): boolean {
  return Object.hasOwn(one, name) && isSameJson(one[name], other[name]);
}

/** Whether the caller may set other user ids and claims: it needs the permission to issue tokens of other keys. */
function mayNameOthers({ authority }: Caller): boolean {
  return authority.kind === 'process' || grants(authority.permissions, ACTIONS['tokens.issue']);
}

/**
 * Checks that keys of the tenant may have these audiences. `own`: those of the service, allowed for every key.
 * Audiences that the key already has are allowed too.
 *
 * @throws PantheonError `not_grantable`, naming the first audience that is not allowed.
 */
export function assertAudiences(
  caller: Caller,
  tenant: Pick<TenantRecord, 'id' | 'audiences'>,
  own: readonly string[],
  settings: Pick<KeySettings, 'jwt'>,
  before: Pick<KeySettings, 'jwt'> | null = null,
): void {
  if (caller.authority.kind === 'process') return;
  const allowed = new Set([...own, ...(tenant.audiences ?? []), ...(before?.jwt?.audience ?? [])]);
  for (const [at, audience] of (settings.jwt?.audience ?? []).entries()) {
    if (allowed.has(audience)) continue;
    const detail = `A key of the system adds it to the audiences of the tenant: PATCH /v1/tenants/${tenant.id}.`;
    throw notGrantable(`jwt.audience[${at}]`, detail);
  }
}
