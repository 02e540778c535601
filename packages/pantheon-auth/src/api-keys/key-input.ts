/**
 * Parses the settings of a key from input: `unknown` in, settings out. An error names the field and what is allowed,
 * and never repeats input. The bounds are here, each with its reason.
 */
import { z } from 'zod';
import { audience, invalid, line, NAME_LENGTH_MAX, parse } from '../commands/input.ts';
import { parseAddressRange } from '../domain/address.ts';
import type {
  AppTypes,
  CustomClaimsInput,
  GrantablePattern,
  MetadataInput,
  PermissionPattern,
} from '../domain/app-types.ts';
import {
  ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS,
  ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  AUDIENCES_MAX,
  checkCustomClaims,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
  type SigningAlgorithm,
} from '../domain/claims.ts';
import type { KeySettings } from '../domain/key.ts';
import { mapSettings, type NamedSettings, type SettingName, settingOrDefault } from '../domain/key-setting-table.ts';
import { RATE_LIMIT_MAX, WINDOW_SECONDS_MAX } from '../domain/limits.ts';
import { isPermissionPattern, isReserved, PERMISSIONS_MAX } from '../domain/permissions.ts';
import type { Instant } from '../foundation/clock.ts';
import { showableName } from '../foundation/field-path.ts';
import { type DurationInput, duration } from './duration-input.ts';
import { described, describedMembers, INNER_DESCRIPTIONS } from './key-descriptions.ts';
import { copyOf, isSmallJson } from './plain-json.ts';
import { type RotationPolicyInput, rotationPolicy } from './rotation-input.ts';

export const DESCRIPTION_LENGTH_MAX = 1_024;
/** Long enough for a URL, which some systems use as user id. */
export const USER_ID_LENGTH_MAX = 256;
/** Metadata are labels for programs, not documents. */
export const METADATA_BYTES_MAX = 4_096;
const METADATA_DEPTH_MAX = 8;
const METADATA_BOUNDS = { bytesMax: METADATA_BYTES_MAX, depthMax: METADATA_DEPTH_MAX } as const;
/** Each limit is counted on every request. */
export const RATE_LIMITS_MAX = 8;
/** The name of the quota in answers and headers, so no rate limit may have it. */
const RESERVED_LIMIT_NAME = 'quota';
/** Each range is compared on every request. */
export const IP_RANGES_MAX = 64;
const INSTANT_ADVICE = 'Write an ISO 8601 time such as 2030-01-31T00:00:00Z.';
const instant = z
  .union([z.iso.datetime({ offset: true, error: INSTANT_ADVICE }), z.date()], INSTANT_ADVICE)
  .transform((value) => new Date(value).getTime());

const permissionList = z
  .array(
    z
      .string()
      .refine(isPermissionPattern, 'Write segment(:segment)* of a-z 0-9 . _ - with * only as the last segment.'),
  )
  .max(PERMISSIONS_MAX)
  .refine((list) => new Set(list).size === list.length, 'Do not repeat an item.');

const rateLimit = z.strictObject(
  described(
    {
      name: z
        .string()
        .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'A name is 1 to 32 characters of a-z, 0-9, _ and -, the first a letter.')
        .refine((name) => name !== RESERVED_LIMIT_NAME, 'That name is reserved for the quota.'),
      limit: z.int().min(1).max(RATE_LIMIT_MAX),
      window: duration.refine((seconds) => seconds >= 1 && seconds <= WINDOW_SECONDS_MAX, 'A window is 1s to 31d.'),
    },
    INNER_DESCRIPTIONS.rateLimit,
  ),
);

const jwt = z
  .strictObject(
    described(
      {
        algorithm: z.enum(['HS256', 'RS256', 'ES256', 'Ed25519']).nullable().default('ES256'),
        audience: z.array(audience).max(AUDIENCES_MAX).nullable().default([]),
        customClaims: z.record(z.string(), z.unknown()).nullable().default({}),
        ttl: duration.nullish(),
      },
      INNER_DESCRIPTIONS.jwt,
    ),
  )
  .transform(({ algorithm, audience, customClaims, ttl }) => ({
    algorithm: algorithm ?? 'ES256',
    audience: audience ?? [],
    customClaims: customClaims ?? {},
    ttl: ttl ?? undefined,
  }))
  .superRefine(({ algorithm, customClaims, ttl }, context) => {
    const reserved = checkCustomClaims(customClaims);
    if (reserved !== null) {
      context.addIssue({
        code: 'custom',
        path: ['customClaims'],
        message: `Not allowed: ${showableName(reserved) ?? 'one of them'}. It is reserved, or the claims are too large.`,
      });
    }
    const max = algorithm === 'HS256' ? KEY_SIGNED_LIFETIME_MAX_SECONDS : ACCESS_TOKEN_LIFETIME_MAX_SECONDS;
    if (ttl !== undefined && (ttl < 1 || ttl > max))
      context.addIssue({ code: 'custom', path: ['ttl'], message: `1s to ${max}s for ${algorithm}.` });
  })
  .transform(({ algorithm, audience, customClaims, ttl }) => ({
    algorithm,
    audience,
    customClaims: copyOf(customClaims),
    ttlSeconds: ttl ?? ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS,
  }));

const quota = z.strictObject(
  described({ limit: z.int().min(1).max(RATE_LIMIT_MAX), period: z.enum(['day', 'month']) }, INNER_DESCRIPTIONS.quota),
);

const ipRange = z
  .string()
  .refine((text) => parseAddressRange(text).ok, 'Write an IPv4 or IPv6 address or a CIDR range.')
  .transform((text) => {
    const range = parseAddressRange(text);
    return range.ok ? range.cidr : text;
  });

const metadata = z
  .record(z.string(), z.unknown())
  .refine(
    (value) => isSmallJson(value, METADATA_BOUNDS),
    `Plain JSON of at most ${METADATA_BYTES_MAX} bytes and ${METADATA_DEPTH_MAX} levels.`,
  )
  .transform(copyOf);

/** Settings that can be changed after creation. */
type Settable = Exclude<SettingName, 'environment'>;
type SettingInput<Name extends Settable> = Pick<CreateKeyInput, Name>[Name];

/** The schema of each setting when it is given completely. */
export const SETTINGS_SCHEMAS: { readonly [Name in Settable]: z.ZodType<KeySettings[Name], SettingInput<Name>> } = {
  userId: line(USER_ID_LENGTH_MAX),
  name: line(NAME_LENGTH_MAX),
  description: line(DESCRIPTION_LENGTH_MAX).nullable(),
  permissions: permissionList,
  grantable: permissionList.refine(
    (list) => !list.some(isReserved),
    'Application permissions only: permissions under pantheon: may be given by a key that has them.',
  ),
  notBefore: instant.nullable(),
  expiresAt: instant.nullable(),
  rateLimits: z
    .array(rateLimit)
    .max(RATE_LIMITS_MAX)
    .refine((rules) => new Set(rules.map((rule) => rule.name)).size === rules.length, 'Names must be different.')
    .transform((rules) => rules.map(({ name, limit, window }) => ({ name, limit, windowSeconds: window }))),
  quota: quota.nullable(),
  ipAllowlist: z.array(ipRange).max(IP_RANGES_MAX),
  rotation: rotationPolicy.nullable(),
  jwt: jwt.nullable(),
  metadata: metadata.nullable(),
};

/** Null means: not given; in an update: remove. */
export function nullish<S extends z.ZodRawShape>(
  shape: S,
): { [Name in keyof S]: z.ZodOptional<z.ZodNullable<S[Name]>> } {
  const entries = Object.entries(shape).map(([name, schema]) => [
    name,
    // A second nullable would appear twice in the OpenAPI file.
    schema instanceof z.ZodNullable ? z.optional(schema) : z.nullish(schema),
  ]);
  return Object.fromEntries(entries) as { [Name in keyof S]: z.ZodOptional<z.ZodNullable<S[Name]>> };
}

const createSchema = z.strictObject(
  describedMembers(
    {
      ...nullish(SETTINGS_SCHEMAS),
      userId: SETTINGS_SCHEMAS.userId,
      name: SETTINGS_SCHEMAS.name,
      environment: z.enum(['live', 'test']).nullish(),
      expiresIn: duration.nullish(),
    },
    'create',
  ),
);

/** The settings of a key. An omitted or null member has the default named here. */
export interface KeySettingsInput<App extends AppTypes = AppTypes> {
  readonly description?: string | null | undefined;
  /** What the key may do. Default: nothing. */
  readonly permissions?: readonly PermissionPattern<App>[] | null | undefined;
  /** Application permissions that the key may give to other keys. Default: none. */
  readonly grantable?: readonly GrantablePattern<App>[] | null | undefined;
  /** ISO 8601 or `Date`. The key is denied before this time. */
  readonly notBefore?: string | Date | null | undefined;
  /** ISO 8601 or `Date`. The key is denied from this time on. Default: never. */
  readonly expiresAt?: string | Date | null | undefined;
  /** Lifetime from now, instead of `expiresAt`. */
  readonly expiresIn?: DurationInput | null | undefined;
  /** Rate limits. Each holds in every sliding window; all are checked together. Default: none. */
  readonly rateLimits?:
    | readonly { readonly name: string; readonly limit: number; readonly window: DurationInput }[]
    | null
    | undefined;
  /** Quota per calendar day or month, UTC. Default: none. */
  readonly quota?: { readonly limit: number; readonly period: 'day' | 'month' } | null | undefined;
  /** Addresses and CIDR ranges that the key may be used from. Default: anywhere. */
  readonly ipAllowlist?: readonly string[] | null | undefined;
  /** The rotation policy. Default: none; then only a caller with `pantheon:keys:rotate` rotates the key. */
  readonly rotation?: RotationPolicyInput | null | undefined;
  /** Settings of tokens. Default: ES256, the service's audience, five minutes. */
  readonly jwt?:
    | {
        readonly algorithm?: SigningAlgorithm | null | undefined;
        readonly audience?: readonly string[] | null | undefined;
        readonly customClaims?: CustomClaimsInput<App> | null | undefined;
        readonly ttl?: DurationInput | null | undefined;
      }
    | null
    | undefined;
  /** Any JSON object. Stored encrypted. */
  readonly metadata?: MetadataInput<App> | null | undefined;
}

/** The input of `create`, and the body of `POST /v1/keys`. */
export interface CreateKeyInput<App extends AppTypes = AppTypes> extends KeySettingsInput<App> {
  readonly userId: string;
  readonly name: string;
  /** Default: `live`. It never changes. */
  readonly environment?: 'live' | 'test' | null | undefined;
}

/** For the OpenAPI file. */
export const CREATE_SCHEMA: z.ZodType<unknown, CreateKeyInput> = createSchema;

/** @throws PantheonError `invalid_request`, naming the field. */
export function parseCreateInput(input: unknown, now: Instant): KeySettings {
  const { expiresIn, ...given } = parse(createSchema, input);
  const expiresAt = expiryOf(given.expiresAt ?? undefined, expiresIn ?? undefined, now);
  const named: NamedSettings = { ...given, expiresAt };
  return checkLife(
    mapSettings((name) => settingOrDefault(name, named)),
    now,
  );
}

export function expiryOf(
  expiresAt: Instant | null | undefined,
  expiresIn: number | undefined,
  now: Instant,
): Instant | null | undefined {
  if (expiresIn === undefined) return expiresAt;
  if (expiresAt !== undefined) throw invalid('expiresIn', 'Give expiresAt or expiresIn, not both.');
  if (expiresIn === 0) throw invalid('expiresIn', 'At least 1s.');
  return now + expiresIn * 1_000;
}

export function checkLife(settings: KeySettings, now: Instant): KeySettings {
  const { expiresAt, notBefore } = settings;
  if (expiresAt !== null && expiresAt <= now) throw invalid('expiresAt', 'It is in the past.');
  if (expiresAt !== null && notBefore !== null && notBefore >= expiresAt)
    throw invalid('notBefore', 'It must come before expiresAt.');
  return settings;
}
