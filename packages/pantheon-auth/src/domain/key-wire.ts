/**
 * How the settings of a key are written outside: in events, in the API and in rows. One mapping in each direction, so
 * that what the log says and what the API shows can never differ.
 */
import type { Instant } from '../foundation/clock.ts';
import { formatDuration, parseDuration } from '../foundation/duration.ts';
import type { Json, JsonObject } from '../foundation/encoding.ts';
import { invariant } from '../foundation/errors.ts';
import type { JwtSettings, KeySettings, RotationSettings } from './key-settings.ts';
import type { QuotaRule } from './limits.ts';

/** Settings in wire form. */
export function settingsToWire(settings: KeySettings): JsonObject {
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
 * a replay still gives everything that decides.
 */
export function settingsFromWire(wire: JsonObject): KeySettings {
  return {
    userId: (wire['userId'] ?? '') as string,
    name: (wire['name'] ?? '') as string,
    description: (wire['description'] ?? null) as string | null,
    environment: wire['environment'] as KeySettings['environment'],
    permissions: wire['permissions'] as readonly string[],
    grantable: wire['grantable'] as readonly string[],
    notBefore: instantFromWire(wire['notBefore']),
    expiresAt: instantFromWire(wire['expiresAt']),
    rateLimits: (wire['rateLimits'] as { name: string; limit: number; window: string }[]).map(
      ({ name, limit, window }) => ({
        name,
        limit,
        windowSeconds: secondsFromWire(window),
      }),
    ),
    quota: (wire['quota'] ?? null) as QuotaRule | null,
    ipAllowlist: (wire['ipAllowlist'] ?? FROM_NOWHERE) as readonly string[],
    rotation: rotationFromWire(wire['rotation']),
    jwt: jwtFromWire(wire['jwt']),
    metadata: (wire['metadata'] ?? null) as JsonObject | null,
  };
}

/** What was erased must not come back as "from anywhere": no request has this address. */
const FROM_NOWHERE: readonly string[] = ['255.255.255.255/32'];

export function instantToWire(instant: Instant | null): string | null {
  return instant === null ? null : new Date(instant).toISOString();
}

function instantFromWire(text: Json | undefined): Instant | null {
  return typeof text === 'string' ? Date.parse(text) : null;
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
  if (wire === null || wire === undefined) return null;
  const { every, overlap } = wire as { every: string | null; overlap: string };
  return { everySeconds: every === null ? null : secondsFromWire(every), overlapSeconds: secondsFromWire(overlap) };
}

function jwtToWire(jwt: JwtSettings | null): JsonObject | null {
  if (jwt === null) return null;
  const { algorithm, audience, customClaims, ttlSeconds } = jwt;
  return { algorithm, audience, customClaims, ttl: formatDuration(ttlSeconds) };
}

function jwtFromWire(wire: Json | undefined): JwtSettings | null {
  if (wire === null || wire === undefined) return null;
  const { algorithm, audience, customClaims, ttl } = wire as unknown as Omit<JwtSettings, 'ttlSeconds'> & {
    ttl: string;
  };
  return { algorithm, audience, customClaims, ttlSeconds: secondsFromWire(ttl) };
}

function secondsFromWire(duration: string): number {
  const seconds = parseDuration(duration);
  invariant(seconds !== null, 'a stored duration is one that we wrote');
  return seconds;
}
