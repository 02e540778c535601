/**
 * How the value of a setting is written outside, and read back from what we wrote ourselves. What this version does not
 * know is an error that names the setting, never its value.
 */
import type { Instant } from '../foundation/clock.ts';
import { formatDuration, parseDuration } from '../foundation/duration.ts';
import type { Json, JsonObject } from '../foundation/encoding.ts';
import { parseAddressRange } from './address.ts';
import type { SigningAlgorithm } from './claims.ts';
import {
  type Environment,
  type JwtSettings,
  type MissedRotation,
  ROTATION_WINDOW_SECONDS_DEFAULT,
  type RotationSettings,
} from './key-settings.ts';
import type { QuotaPeriod, QuotaRule, RateLimitRule } from './limits.ts';

export interface WireCodec<Value> {
  readonly toWire: (value: Value) => Json;
  /** `name`: of the setting. @throws Error that names it, and never says its value. */
  readonly fromWire: (wire: Json | undefined, name: string) => Value;
}

const ENVIRONMENTS: readonly Environment[] = ['live', 'test'];
const PERIODS: readonly QuotaPeriod[] = ['day', 'month'];
const MISSED_ROTATIONS: readonly MissedRotation[] = ['extend', 'expire'];
const ALGORITHMS: readonly SigningAlgorithm[] = ['HS256', 'RS256', 'ES256', 'Ed25519'];

/** What was erased must not come back as "from anywhere": no request has this address. */
const FROM_NOWHERE: readonly string[] = ['255.255.255.255/32'];

/** One that was erased from the log comes back empty. */
export const TEXT: WireCodec<string> = { toWire: asItIs, fromWire: (wire, name) => textFromWire(wire, name) ?? '' };
export const OPTIONAL_TEXT: WireCodec<string | null> = { toWire: asItIs, fromWire: textFromWire };
export const TEXTS: WireCodec<readonly string[]> = { toWire: asItIs, fromWire: textsFromWire };
export const PLAIN_OBJECT: WireCodec<JsonObject | null> = { toWire: asItIs, fromWire: plainObjectFromWire };
export const INSTANT: WireCodec<Instant | null> = { toWire: instantToWire, fromWire: instantFromWire };
export const ENVIRONMENT: WireCodec<Environment> = {
  toWire: asItIs,
  fromWire: (wire, name) => oneOf(ENVIRONMENTS, wire, name),
};
export const RATE_LIMITS: WireCodec<readonly RateLimitRule[]> = {
  toWire: (rules) => rules.map(rateLimitToWire),
  fromWire: (wire, name) => listFromWire(wire, name).map((rule) => rateLimitFromWire(rule, name)),
};
export const QUOTA: WireCodec<QuotaRule | null> = { toWire: quotaToWire, fromWire: quotaFromWire };
export const ADDRESS_RANGES: WireCodec<readonly string[]> = { toWire: asItIs, fromWire: rangesFromWire };
export const ROTATION: WireCodec<RotationSettings | null> = { toWire: rotationToWire, fromWire: rotationFromWire };
export const JWT: WireCodec<JwtSettings | null> = { toWire: jwtToWire, fromWire: jwtFromWire };

function asItIs(value: Json): Json {
  return value;
}

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
  const { everySeconds, overlapSeconds, windowSeconds, onMissed, recipientJwk } = rotation;
  return {
    every: everySeconds === null ? null : formatDuration(everySeconds),
    overlap: formatDuration(overlapSeconds),
    window: formatDuration(windowSeconds),
    onMissed,
    recipientJwk,
  };
}

function rotationFromWire(wire: Json | undefined, name: string): RotationSettings | null {
  const rotation = objectFromWire(wire, name, ['every', 'overlap', 'window', 'onMissed', 'recipientJwk']);
  if (rotation === null) return null;
  const { every = null, overlap, window, onMissed = 'extend', recipientJwk } = rotation;
  return {
    everySeconds: every === null ? null : secondsFromWire(every, `${name}.every`),
    overlapSeconds: secondsFromWire(overlap, `${name}.overlap`),
    // Policies of earlier versions of this program have neither a window nor a recipient.
    windowSeconds: window === undefined ? ROTATION_WINDOW_SECONDS_DEFAULT : secondsFromWire(window, `${name}.window`),
    onMissed: oneOf(MISSED_ROTATIONS, onMissed, `${name}.onMissed`),
    recipientJwk: objectFromWire(recipientJwk, `${name}.recipientJwk`),
  };
}

function rateLimitToWire({ name, limit, windowSeconds }: RateLimitRule): JsonObject {
  return { name, limit, window: formatDuration(windowSeconds) };
}

function rateLimitFromWire(wire: Json, setting: string): RateLimitRule {
  const rule = objectFromWire(wire, setting, ['name', 'limit', 'window']);
  const { name, limit, window } = rule ?? {};
  if (typeof name !== 'string') throw unreadable(`${setting}.name`);
  return {
    name,
    limit: countFromWire(limit, `${setting}.limit`),
    windowSeconds: secondsFromWire(window, `${setting}.window`),
  };
}

function quotaToWire(quota: QuotaRule | null): JsonObject | null {
  return quota === null ? null : { limit: quota.limit, period: quota.period };
}

function quotaFromWire(wire: Json | undefined, name: string): QuotaRule | null {
  const quota = objectFromWire(wire, name, ['limit', 'period']);
  if (quota === null) return null;
  return {
    limit: countFromWire(quota['limit'], `${name}.limit`),
    period: oneOf(PERIODS, quota['period'], `${name}.period`),
  };
}

function jwtToWire(jwt: JwtSettings | null): JsonObject | null {
  if (jwt === null) return null;
  const { algorithm, audience, customClaims, ttlSeconds } = jwt;
  return { algorithm, audience, customClaims, ttl: formatDuration(ttlSeconds) };
}

function jwtFromWire(wire: Json | undefined, name: string): JwtSettings | null {
  const jwt = objectFromWire(wire, name, ['algorithm', 'audience', 'customClaims', 'ttl']);
  if (jwt === null) return null;
  return {
    algorithm: oneOf(ALGORITHMS, jwt['algorithm'], `${name}.algorithm`),
    audience: textsFromWire(jwt['audience'], `${name}.audience`),
    customClaims: objectFromWire(jwt['customClaims'], `${name}.customClaims`) ?? {},
    ttlSeconds: secondsFromWire(jwt['ttl'], `${name}.ttl`),
  };
}

function rangesFromWire(wire: Json | undefined, name: string): readonly string[] {
  if (wire === null || wire === undefined) return FROM_NOWHERE;
  const ranges = textsFromWire(wire, name);
  if (!ranges.every((range) => parseAddressRange(range).ok)) throw unreadable(name);
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
function textFromWire(wire: Json | undefined, name: string): string | null {
  const text = wire ?? null;
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

/** One whose members are the owner's business. */
function plainObjectFromWire(wire: Json | undefined, name: string): JsonObject | null {
  return objectFromWire(wire, name);
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
