/**
 * What a caller may hand out, beyond permissions: nothing that reaches further than its own key does. Time, place, limits
 * and environment bound what it makes by those of its own key; user ids, custom claims and audiences decide in whose name
 * and for whom tokens are made. Pure. Asked whenever a secret or a token may come into the hands of the caller, and when a
 * key is changed. Permissions are `key-policy.ts`.
 */
import { canonicalJson, type Json, type JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { isWithin } from './address.ts';
import { ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS } from './claims.ts';
import type { KeyRecord, KeySettings } from './key.ts';
import { ACTIONS, addsGrants, assertMayGrant, assertWithinCreator, type Caller, notGrantable } from './key-policy.ts';
import { KEY_SETTING_NAMES, KEY_SETTINGS } from './key-setting-table.ts';
import { isQuotaWithin, isRateLimitsWithin } from './limits.ts';
import { grants } from './permissions.ts';
import type { TenantRecord } from './tenant.ts';

/** A caller with their key as it is now: `CallerGuard` makes it. */
export interface ConfirmedCaller extends Caller {
  /** Null: no key stands behind the caller. That is the process, or what code in process made up. */
  readonly own: Omit<KeySettings, 'description' | 'metadata'> | null;
}

/**
 * Whether all of this key may come into the hands of the caller: when it is created, rotated, resumed, or a token is
 * issued for it.
 *
 * @throws PantheonError `not_grantable`, naming the first setting that goes beyond the caller.
 */
export function assertMayHandOut(caller: ConfirmedCaller, settings: KeySettings): void {
  if (caller.authority.kind === 'process') return;
  assertMayGrant(caller, settings);
  assertWithinBounds(caller, settings);
  assertMayName(caller, settings.userId);
  assertMayClaim(caller, claimsOf(settings), null);
}

/**
 * Whether the caller may make this of a key that is there. What only takes away is bounded by nothing; who gives must be as
 * bounded as what they make by it.
 *
 * @throws PantheonError `not_grantable`, `not_allowed` when a key would change its own policy.
 */
export function assertMayChange(caller: ConfirmedCaller, record: KeyRecord, settings: KeySettings): void {
  const { authority } = caller;
  if (authority.kind === 'process') return;
  assertMayGrant(caller, settings);
  const changed = KEY_SETTING_NAMES.filter((name) => !isSame(settings[name] as Json, record[name] as Json));
  const beyond =
    authority.keyId === record.id ? changed.find((name) => !KEY_SETTINGS[name].holderMayChange) : undefined;
  if (beyond !== undefined)
    throw new PantheonError('not_allowed', { field: beyond, detail: 'A key does not change its own policy.' });
  if (changed.some((name) => WIDENS[name](record, settings))) assertWithinBounds(caller, settings);
  if (changed.includes('userId')) assertMayName(caller, settings.userId);
  if (changed.includes('jwt')) assertMayClaim(caller, claimsOf(settings), claimsOf(record));
}

type Change = (before: KeySettings, after: KeySettings) => boolean;

const isWiderHolding: Change = (before, after) => addsGrants(before, after);
const decidesNothing: Change = () => false;
const always: Change = () => true;

/** Of each setting that has changed: whether the key may now do what it could not before. Taking a restriction away is that. */
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
  jwt: (before, after) => lifetimeOf(after) > lifetimeOf(before) || !isSame(forWhom(before), forWhom(after)),
  // The holder renews itself under it, and how old a secret may become is in it.
  rotation: always,
  userId: always,
  environment: always,
};

function endOf({ expiresAt }: KeySettings): number {
  return expiresAt ?? Number.POSITIVE_INFINITY;
}

function lifetimeOf({ jwt }: KeySettings): number {
  return jwt?.ttlSeconds ?? ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS;
}

/** All that is in the settings of tokens but their lifetime. */
function forWhom({ jwt }: KeySettings): Json {
  return jwt === null ? null : { ...jwt, ttlSeconds: 0 };
}

/** Whatever bounds the key of the caller bounds what it makes at least as much. */
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
  // A claim may be one that holds back who has it (`read_only: true`), so leaving it out is like leaving out a limit.
  if (!mayNameOthers(caller) && !hasAllOf(claimsOf(settings), claimsOf(own)))
    throw notGrantable('jwt.customClaims', `It needs each custom claim of the calling key, with its value. ${REMEDY}`);
}

const REMEDY = `Use your own, or call with a key that holds ${ACTIONS['tokens.issue']}.`;

/** Tokens are made in the name of this user: `sub`. */
function assertMayName(caller: ConfirmedCaller, userId: string): void {
  const own = caller.own?.userId ?? caller.auditContext.actor.userId;
  if (userId !== own && !mayNameOthers(caller))
    throw notGrantable('userId', `A key of somebody else makes tokens in their name. ${REMEDY}`);
}

/**
 * What others read in a token. Each claim is as it was (`before`), or one that the tokens of the caller have too; none that
 * was there goes. That none of the caller's own is missing is one of the bounds.
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
  return Object.hasOwn(one, name) && isSame(one[name], other[name]);
}

/** The right to make tokens of keys that are not one's own is the right to say whose and what they are. */
function mayNameOthers({ authority }: Caller): boolean {
  return authority.kind === 'process' || grants(authority.permissions, ACTIONS['tokens.issue']);
}

/**
 * Whether keys of the tenant may be given these audiences. `own` are those of the service, which any key may ask for.
 * Those that the key has already stay.
 *
 * @throws PantheonError `not_grantable`, naming the first that may not be.
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

function isSame(one: Json | undefined, other: Json | undefined): boolean {
  return canonicalJson({ value: one }) === canonicalJson({ value: other });
}
