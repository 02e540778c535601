/**
 * What callers may say about a key, parsed: `unknown` in, settings out. A mistake is named by its field with the remedy;
 * what was sent is never repeated. The bounds are here, each with its reason.
 */
import { z } from 'zod';
import { parseAddressRange } from '../domain/address.ts';
import {
  ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS,
  ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  AUDIENCE_LENGTH_MAX,
  checkCustomClaims,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
} from '../domain/claims.ts';
import type { KeySettings } from '../domain/key.ts';
import { isPermissionPattern, PERMISSIONS_MAX } from '../domain/permissions.ts';
import type { Instant } from '../foundation/clock.ts';
import { parseDuration } from '../foundation/duration.ts';
import { canonicalJson, type JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';

/** Long enough for any person or job; short enough for a table. */
export const NAME_LENGTH_MAX = 128;
export const DESCRIPTION_LENGTH_MAX = 1_024;
/** Subjects of other systems are URLs at worst. */
export const USER_ID_LENGTH_MAX = 256;
/** A label for a machine, not a document store. */
export const METADATA_BYTES_MAX = 4_096;
const METADATA_DEPTH_MAX = 8;
/** Each is counted on every request. */
export const RATE_LIMITS_MAX = 8;
export const LIMIT_MAX = 1_000_000_000;
export const RATE_WINDOW_SECONDS_MAX: number = 31 * 86_400;
/** Each is compared on every request of such a key. */
export const IP_RANGES_MAX = 64;
export const AUDIENCES_MAX = 16;
export const REASON_LENGTH_MAX = 256;
export const OVERLAP_SECONDS_DEFAULT: number = 86_400;
/** Overlap is for moving, not for living: a leaked version must not be accepted for longer. */
export const OVERLAP_SECONDS_MAX: number = 30 * 86_400;
const ROTATION_EVERY_SECONDS_MIN = 3_600;

/** Text for people: no control or direction characters, which could forge a log line or a table. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const UNSAFE_TEXT = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

function line(lengthMax: number): z.ZodType<string> {
  return z
    .string()
    .min(1, 'Must not be empty.')
    .max(lengthMax, `At most ${lengthMax} characters.`)
    .refine((text) => text.isWellFormed() && !UNSAFE_TEXT.test(text), 'Control characters are not allowed.')
    .refine((text) => text.trim() === text, 'Must not begin or end with a space.');
}

const duration = z
  .union([z.string(), z.number()])
  .refine((value) => parseDuration(value) !== null, 'Write "15m", "12h", "90d", or whole seconds.')
  .transform((value) => parseDuration(value) ?? 0);

const instant = z.union([z.iso.datetime({ offset: true, error: 'Write an ISO 8601 time such as 2030-01-31T00:00:00Z.' }), z.date()]).transform((value) => new Date(value).getTime());

const permissionList = z
  .array(z.string().refine(isPermissionPattern, 'Write segment(:segment)* of a-z 0-9 . _ - with * only as the last segment.'))
  .max(PERMISSIONS_MAX)
  .refine((list) => new Set(list).size === list.length, 'Name each once.');

const rateLimit = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'A name is 1 to 32 of a-z 0-9 _ -, a letter first.'),
  limit: z.int().min(1).max(LIMIT_MAX),
  window: duration.refine((seconds) => seconds >= 1 && seconds <= RATE_WINDOW_SECONDS_MAX, 'A window is 1s to 31d.'),
});

const audience = z.string().min(1).max(AUDIENCE_LENGTH_MAX).regex(/^[\x21-\x7e]+$/, 'Printable ASCII without spaces.');

const jwt = z
  .strictObject({
    algorithm: z.enum(['HS256', 'RS256', 'ES256', 'Ed25519']).default('ES256'),
    audience: z.array(audience).max(AUDIENCES_MAX).default([]),
    customClaims: z.record(z.string(), z.unknown()).default({}),
    ttl: duration.optional(),
  })
  .superRefine(({ algorithm, customClaims, ttl }, context) => {
    const reserved = checkCustomClaims(customClaims);
    if (reserved !== null) {
      context.addIssue({ code: 'custom', path: ['customClaims'], message: `Not allowed: ${reserved}. It is reserved, or the claims are too large.` });
    }
    const max = algorithm === 'HS256' ? KEY_SIGNED_LIFETIME_MAX_SECONDS : ACCESS_TOKEN_LIFETIME_MAX_SECONDS;
    if (ttl !== undefined && (ttl < 1 || ttl > max)) context.addIssue({ code: 'custom', path: ['ttl'], message: `1s to ${max}s for ${algorithm}.` });
  })
  .transform(({ algorithm, audience, customClaims, ttl }) => ({
    algorithm,
    audience,
    customClaims: customClaims as JsonObject,
    ttlSeconds: ttl ?? ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS,
  }));

const rotation = z
  .strictObject({
    every: duration.refine((seconds) => seconds >= ROTATION_EVERY_SECONDS_MIN, 'At least 1h.').nullish(),
    overlap: duration.refine((seconds) => seconds <= OVERLAP_SECONDS_MAX, 'At most 30d.').optional(),
  })
  .transform(({ every, overlap }) => ({ everySeconds: every ?? null, overlapSeconds: overlap ?? OVERLAP_SECONDS_DEFAULT }));

const ipRange = z
  .string()
  .refine((text) => parseAddressRange(text).ok, 'Write an IPv4 or IPv6 address or a CIDR range.')
  .transform((text) => {
    const range = parseAddressRange(text);
    return range.ok ? range.cidr : text;
  });

const metadata = z.record(z.string(), z.unknown()).refine(isSmallJson, `Plain JSON of at most ${METADATA_BYTES_MAX} bytes and ${METADATA_DEPTH_MAX} levels.`).transform((value) => value as JsonObject);

const settings = {
  userId: line(USER_ID_LENGTH_MAX),
  name: line(NAME_LENGTH_MAX),
  description: line(DESCRIPTION_LENGTH_MAX).nullable(),
  permissions: permissionList,
  grantable: permissionList,
  notBefore: instant.nullable(),
  expiresAt: instant.nullable(),
  rateLimits: z
    .array(rateLimit)
    .max(RATE_LIMITS_MAX)
    .refine((rules) => new Set(rules.map((rule) => rule.name)).size === rules.length, 'Each name once.')
    .transform((rules) => rules.map(({ name, limit, window }) => ({ name, limit, windowSeconds: window }))),
  quota: z.strictObject({ limit: z.int().min(1).max(LIMIT_MAX), period: z.enum(['day', 'month']) }).nullable(),
  ipAllowlist: z.array(ipRange).max(IP_RANGES_MAX),
  rotation: rotation.nullable(),
  jwt: jwt.nullable(),
  metadata: metadata.nullable(),
};

const createSchema = z.strictObject({
  ...z.object(settings).partial().shape,
  userId: settings.userId,
  name: settings.name,
  environment: z.enum(['live', 'test']).optional(),
  expiresIn: duration.optional(),
});

const updateSchema = z.strictObject({ ...z.object(settings).partial().shape, expiresIn: duration.optional() });

/** What `create` takes: the body of `POST /v1/keys`. */
export type CreateKeyInput = z.input<typeof createSchema>;
/** What `update` takes: only what changes; null clears. */
export type UpdateKeyInput = z.input<typeof updateSchema>;

/** The schemas themselves, for the documents of the API. */
export const KEY_INPUT_SCHEMAS: { readonly create: z.ZodType<unknown, CreateKeyInput>; readonly update: z.ZodType<unknown, UpdateKeyInput> } = {
  create: createSchema,
  update: updateSchema,
};

/** @throws PantheonError `invalid_request`, naming the field. */
export function parseCreateInput(input: unknown, now: Instant): KeySettings {
  const { expiresIn, ...given } = parse(createSchema, input);
  return checkLife(
    {
      userId: given.userId,
      name: given.name,
      description: given.description ?? null,
      environment: given.environment ?? 'live',
      permissions: given.permissions ?? [],
      grantable: given.grantable ?? [],
      notBefore: given.notBefore ?? null,
      expiresAt: expiryOf(given.expiresAt, expiresIn, now) ?? null,
      rateLimits: given.rateLimits ?? [],
      quota: given.quota ?? null,
      ipAllowlist: given.ipAllowlist ?? [],
      rotation: given.rotation ?? null,
      jwt: given.jwt ?? null,
      metadata: given.metadata ?? null,
    },
    now,
  );
}

/** The settings after the update. @throws PantheonError `invalid_request`, naming the field. */
export function parseUpdateInput(input: unknown, current: KeySettings, now: Instant): KeySettings {
  const { expiresIn, ...given } = parse(updateSchema, input);
  const expiresAt = expiryOf(given.expiresAt, expiresIn, now);
  const changed = Object.fromEntries(Object.entries({ ...given, expiresAt }).filter(([, value]) => value !== undefined));
  const next = { ...current, ...changed } as KeySettings;
  return next.expiresAt === current.expiresAt ? next : checkLife(next, now);
}

const rotateSchema = z.strictObject({
  overlap: duration.refine((seconds) => seconds <= OVERLAP_SECONDS_MAX, 'At most 30d.').optional(),
  expectedVersion: z.int().min(1).optional(),
});

export type RotateKeyInput = z.input<typeof rotateSchema>;

export function parseRotateInput(input: unknown): { readonly overlapSeconds: number | null; readonly expectedVersion: number | null } {
  const { overlap, expectedVersion } = parse(rotateSchema, input);
  return { overlapSeconds: overlap ?? null, expectedVersion: expectedVersion ?? null };
}

/** A reason that somebody gives: for the log. */
export function parseReason(input: unknown): string | null {
  return parse(z.strictObject({ reason: line(REASON_LENGTH_MAX).nullish() }), { reason: input ?? null }).reason ?? null;
}

function expiryOf(expiresAt: Instant | null | undefined, expiresIn: number | undefined, now: Instant): Instant | null | undefined {
  if (expiresIn === undefined) return expiresAt;
  if (expiresAt !== undefined) throw invalid('expiresIn', 'Give expiresAt or expiresIn, not both.');
  return now + expiresIn * 1_000;
}

function checkLife(settings: KeySettings, now: Instant): KeySettings {
  const { expiresAt, notBefore } = settings;
  if (expiresAt !== null && expiresAt <= now) throw invalid('expiresAt', 'It lies in the past.');
  if (expiresAt !== null && notBefore !== null && notBefore >= expiresAt) throw invalid('notBefore', 'It must come before expiresAt.');
  return settings;
}

/** Parses with a schema; the first issue becomes the error, under its path. */
export function parse<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const result = schema.safeParse(input ?? {});
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw invalid(fieldOf(issue), issue?.message ?? 'It is not valid.');
}

function fieldOf(issue: z.core.$ZodIssue | undefined): string {
  const keys = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  // Names of unknown members come from the caller: shown shortened, and only if they look like names.
  const unknown = keys.filter((key) => /^[A-Za-z0-9_.-]{1,40}$/.test(key));
  const path = [...(issue?.path ?? []), ...unknown];
  return path.reduce<string>((text, part) => (typeof part === 'number' ? `${text}[${part}]` : text === '' ? String(part) : `${text}.${String(part)}`), '') || 'body';
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}

function isSmallJson(value: unknown): boolean {
  return isPlainJson(value, METADATA_DEPTH_MAX) && Buffer.byteLength(canonicalJson(value as object)) <= METADATA_BYTES_MAX;
}

function isPlainJson(value: unknown, depthLeft: number): boolean {
  if (value === null || typeof value === 'boolean') return true;
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || depthLeft === 0) return false;
  if (Array.isArray(value)) return value.every((item) => isPlainJson(item, depthLeft - 1));
  return Object.entries(value).every(([name, item]) => !FORBIDDEN.has(name) && name.isWellFormed() && isPlainJson(item, depthLeft - 1));
}

const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype']);
