/**
 * How the settings of a key are written outside: in events, in the API and in rows. One mapping in each direction, so
 * that what the log says and what the API shows can never differ.
 */
import type { Instant } from '../foundation/clock.ts';
import { formatDuration, parseDuration } from '../foundation/duration.ts';
import type { Json, JsonObject } from '../foundation/encoding.ts';
import { parseAddressRange } from './address.ts';
import type { SigningAlgorithm } from './claims.ts';
import type { Environment, JwtSettings, KeySettings, RotationSettings } from './key-settings.ts';
import type { QuotaPeriod, QuotaRule, RateLimitRule } from './limits.ts';

/** Settings in wire form, where each has the name that it has here. */
export type SettingsWire = { readonly [Name in keyof KeySettings]: Json };

export function settingsToWire(settings: KeySettings): SettingsWire {
  return {
    userId: settings.userId,
    name: settings.name,
    description: settings.description,
    environment: settings.environment,
    permissions: settings.permissions,
    grantable: settings.grantable,
    notBefore: instantToWire(settings.notBefore),
    expiresAt: instantToWire(settings.expiresAt),
    rateLimits: settings.rateLimits.map(({ name, limit, windowSeconds }) => ({
      name,
      limit,
      window: formatDuration(windowSeconds),
    })),
    quota: settings.quota === null ? null : { limit: settings.quota.limit, period: settings.quota.period },
    ipAllowlist: settings.ipAllowlist,
    rotation: rotationToWire(settings.rotation),
    jwt: jwtToWire(settings.jwt),
    metadata: settings.metadata,
  };
}

/**
 * Settings from wire form that we wrote ourselves. Personal ones that were erased from the log come back empty, so that
 * a replay still gives everything that decides. A value that this version does not know (of a later version, say, or of a
 * damaged row) is an error: read past, it could open what it was meant to close.
 *
 * @throws Error that names the setting, never its value.
 */
export function settingsFromWire(wire: JsonObject): KeySettings {
  return {
    userId: textFromWire(wire, 'userId') ?? '',
    name: textFromWire(wire, 'name') ?? '',
    description: textFromWire(wire, 'description'),
    environment: oneOf(ENVIRONMENTS, wire['environment'], 'environment'),
    permissions: textsFromWire(wire['permissions'], 'permissions'),
    grantable: textsFromWire(wire['grantable'], 'grantable'),
    notBefore: instantFromWire(wire['notBefore'], 'notBefore'),
    expiresAt: instantFromWire(wire['expiresAt'], 'expiresAt'),
    rateLimits: listFromWire(wire['rateLimits'], 'rateLimits').map(rateLimitFromWire),
    quota: quotaFromWire(wire['quota']),
    ipAllowlist: rangesFromWire(wire['ipAllowlist']),
    rotation: rotationFromWire(wire['rotation']),
    jwt: jwtFromWire(wire['jwt']),
    metadata: objectFromWire(wire['metadata'], 'metadata'),
  };
}

const ENVIRONMENTS: readonly Environment[] = ['live', 'test'];
const PERIODS: readonly QuotaPeriod[] = ['day', 'month'];
const ALGORITHMS: readonly SigningAlgorithm[] = ['HS256', 'RS256', 'ES256', 'Ed25519'];

/** What was erased must not come back as "from anywhere": no request has this address. */
const FROM_NOWHERE: readonly string[] = ['255.255.255.255/32'];

export function instantToWire(instant: Instant | null): string | null {
  return instant === null ? null : new Date(instant).toISOString();
}

function instantFromWire(text: Json | undefined, name: string): Instant | null {
  if (text === null || text === undefined) return null;
  const instant = typeof text === 'string' ? Date.parse(text) : Number.NaN;
  // Compared with the time, what is not a number would never have passed.
  if (Number.isNaN(instant)) throw unreadable(name);
  return instant;
}

function rotationToWire(rotation: RotationSettings | null): JsonObject | null {
  if (rotation === null) return null;
  const { everySeconds, overlapSeconds } = rotation;
  return {
    every: everySeconds === null ? null : formatDuration(everySeconds),
    overlap: formatDuration(overlapSeconds),
  };
}

function rotationFromWire(wire: Json | undefined): RotationSettings | null {
  const rotation = objectFromWire(wire, 'rotation', ['every', 'overlap']);
  if (rotation === null) return null;
  const { every = null, overlap } = rotation;
  return {
    everySeconds: every === null ? null : secondsFromWire(every, 'rotation.every'),
    overlapSeconds: secondsFromWire(overlap, 'rotation.overlap'),
  };
}

function rateLimitFromWire(wire: Json): RateLimitRule {
  const rule = objectFromWire(wire, 'rateLimits', ['name', 'limit', 'window']);
  const { name, limit, window } = rule ?? {};
  if (typeof name !== 'string') throw unreadable('rateLimits.name');
  return {
    name,
    limit: countFromWire(limit, 'rateLimits.limit'),
    windowSeconds: secondsFromWire(window, 'rateLimits.window'),
  };
}

function quotaFromWire(wire: Json | undefined): QuotaRule | null {
  const quota = objectFromWire(wire, 'quota', ['limit', 'period']);
  if (quota === null) return null;
  return {
    limit: countFromWire(quota['limit'], 'quota.limit'),
    period: oneOf(PERIODS, quota['period'], 'quota.period'),
  };
}

function jwtToWire(jwt: JwtSettings | null): JsonObject | null {
  if (jwt === null) return null;
  const { algorithm, audience, customClaims, ttlSeconds } = jwt;
  return { algorithm, audience, customClaims, ttl: formatDuration(ttlSeconds) };
}

function jwtFromWire(wire: Json | undefined): JwtSettings | null {
  const jwt = objectFromWire(wire, 'jwt', ['algorithm', 'audience', 'customClaims', 'ttl']);
  if (jwt === null) return null;
  return {
    algorithm: oneOf(ALGORITHMS, jwt['algorithm'], 'jwt.algorithm'),
    audience: textsFromWire(jwt['audience'], 'jwt.audience'),
    customClaims: objectFromWire(jwt['customClaims'], 'jwt.customClaims') ?? {},
    ttlSeconds: secondsFromWire(jwt['ttl'], 'jwt.ttl'),
  };
}

function rangesFromWire(wire: Json | undefined): readonly string[] {
  if (wire === null || wire === undefined) return FROM_NOWHERE;
  const ranges = textsFromWire(wire, 'ipAllowlist');
  if (!ranges.every((range) => parseAddressRange(range).ok)) throw unreadable('ipAllowlist');
  return ranges;
}

function secondsFromWire(duration: Json | undefined, name: string): number {
  const seconds = typeof duration === 'string' ? parseDuration(duration) : null;
  if (seconds === null) throw unreadable(name);
  return seconds;
}

function countFromWire(count: Json | undefined, name: string): number {
  if (!Number.isSafeInteger(count) || Number(count) < 0) throw unreadable(name);
  return Number(count);
}

/** Null: there is none. */
function textFromWire(wire: JsonObject, name: string): string | null {
  const text = wire[name] ?? null;
  if (text !== null && typeof text !== 'string') throw unreadable(name);
  return text;
}

function textsFromWire(wire: Json | undefined, name: string): readonly string[] {
  return listFromWire(wire, name).map((text) => {
    if (typeof text !== 'string') throw unreadable(name);
    return text;
  });
}

function listFromWire(wire: Json | undefined, name: string): readonly Json[] {
  if (!Array.isArray(wire)) throw unreadable(name);
  return wire as readonly Json[];
}

/** Null: there is none. With `members`, one that is not among them is an error. */
function objectFromWire(wire: Json | undefined, name: string, members?: readonly string[]): JsonObject | null {
  if (wire === null || wire === undefined) return null;
  if (typeof wire !== 'object' || Array.isArray(wire)) throw unreadable(name);
  const object = wire as JsonObject;
  if (members !== undefined && !Object.keys(object).every((member) => members.includes(member))) throw unreadable(name);
  return object;
}

function oneOf<T extends string>(known: readonly T[], value: Json | undefined, name: string): T {
  const found = known.find((one) => one === value);
  if (found === undefined) throw unreadable(name);
  return found;
}

function unreadable(name: string): Error {
  return new Error(`The stored setting ${name} has a value that this version does not know.`);
}
