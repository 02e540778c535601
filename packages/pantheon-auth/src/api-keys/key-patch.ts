/**
 * Parses an update of a key as a JSON merge patch (RFC 7396): members that are not given stay, null removes, and the
 * same applies inside `quota`, `rotation`, `jwt` and `metadata`. The merged settings are parsed like complete ones.
 */

import { z } from 'zod';
import { audience, parse } from '../commands/input.ts';
import type { AppTypes, CustomClaimsPatch, MetadataPatch } from '../domain/app-types.ts';
import type { KeySettings } from '../domain/key.ts';
import { mapSettings, type NamedSettings, type SettingName, settingOrDefault } from '../domain/key-setting-table.ts';
import { settingsToWire } from '../domain/key-wire.ts';
import type { Instant } from '../foundation/clock.ts';
import { isPlainObject } from '../foundation/encoding.ts';
import { type DurationInput, duration } from './duration-input.ts';
import { described, describedMembers, INNER_DESCRIPTIONS } from './key-descriptions.ts';
import {
  CREATE_SCHEMA,
  type CreateKeyInput,
  checkLife,
  expiryOf,
  type KeySettingsInput,
  nullish,
  SETTINGS_SCHEMAS,
} from './key-input.ts';

/** Of the settings, those that are objects: a change of one is said otherwise than the whole. */
type MergedName = {
  [Name in SettingName]: NonNullable<KeySettings[Name]> extends string | number | readonly unknown[] ? never : Name;
}[SettingName];

/** Settings that are merged. Their members are checked for their type here and completely after merging. */
const MERGED = {
  quota: z.strictObject(
    described({ limit: z.number().nullish(), period: z.enum(['day', 'month']).nullish() }, INNER_DESCRIPTIONS.quota),
  ),
  rotation: z.strictObject(
    described(
      {
        every: duration.nullish(),
        overlap: duration.nullish(),
        window: duration.nullish(),
        onMissed: z.enum(['extend', 'expire']).nullish(),
        recipientJwk: z.record(z.string(), z.unknown()).nullish(),
      },
      INNER_DESCRIPTIONS.rotation,
    ),
  ),
  jwt: z.strictObject(
    described(
      {
        algorithm: z.enum(['HS256', 'RS256', 'ES256', 'Ed25519']).nullish(),
        audience: z.array(audience).nullish(),
        customClaims: z.record(z.string(), z.unknown()).nullish(),
        ttl: duration.nullish(),
      },
      INNER_DESCRIPTIONS.jwt,
    ),
  ),
  metadata: z.record(z.string(), z.unknown()),
} satisfies { readonly [Name in MergedName]: z.ZodType };
const MERGED_NAMES = Object.keys(MERGED) as readonly MergedName[];

const { userId, name, ...others } = SETTINGS_SCHEMAS;
const updateSchema = z.strictObject(
  describedMembers(
    {
      // What a key must have cannot be taken away.
      userId: userId.optional(),
      name: name.optional(),
      ...nullish(others),
      ...nullish(MERGED),
      expiresIn: duration.nullish(),
    },
    'update',
  ),
);

type OrNull<T> = { readonly [Name in keyof T]: T[Name] | null };
type Patch<T> = { readonly [Name in keyof T]?: T[Name] | null | undefined };
type Whole<Name extends keyof KeySettingsInput> = NonNullable<KeySettingsInput[Name]>;

/** The input of `update`: only the settings to change. Null removes a setting. */
export interface UpdateKeyInput<App extends AppTypes = AppTypes>
  extends OrNull<Omit<KeySettingsInput<App>, MergedName>> {
  readonly userId?: string | undefined;
  readonly name?: string | undefined;
  readonly expiresIn?: DurationInput | null | undefined;
  /** Merged: members that are not given stay. */
  readonly quota?: Patch<Whole<'quota'>> | null | undefined;
  /** Merged: members that are not given stay. */
  readonly rotation?: Patch<Whole<'rotation'>> | null | undefined;
  /** Merged: members that are not given stay, also inside `customClaims`. A list replaces the existing list. */
  readonly jwt?:
    | (Patch<Omit<Whole<'jwt'>, 'customClaims'>> & {
        readonly customClaims?: CustomClaimsPatch<App> | null | undefined;
      })
    | null
    | undefined;
  /** Merged: members that are not given stay. */
  readonly metadata?: MetadataPatch<App> | null | undefined;
}

/** The schemas, for the OpenAPI file. */
export const KEY_INPUT_SCHEMAS: {
  readonly create: z.ZodType<unknown, CreateKeyInput>;
  readonly update: z.ZodType<unknown, UpdateKeyInput>;
} = {
  create: CREATE_SCHEMA,
  update: updateSchema,
};

/** The settings after the update. @throws PantheonError `invalid_request`, naming the field. */
export function parseUpdateInput(input: unknown, current: KeySettings, now: Instant): KeySettings {
  const { expiresIn, ...given } = parse(updateSchema, input);
  const expiresAt = expiryOf(given.expiresAt, expiresIn ?? undefined, now);
  const named = { ...given, expiresAt, ...mergedMembers(input, given, current) } as NamedSettings;
  const next = mapSettings((name) => (named[name] === undefined ? current[name] : settingOrDefault(name, named)));
  const isLifeSame = next.expiresAt === current.expiresAt && next.notBefore === current.notBefore;
  return isLifeSame ? next : checkLife(next, now);
}

const mergedSchema = z
  .object(SETTINGS_SCHEMAS)
  .pick({ quota: true, rotation: true, jwt: true, metadata: true } satisfies { readonly [Name in MergedName]: true })
  .partial();

/** The merged settings that the patch names, merged with the current ones and parsed. */
function mergedMembers(
  input: unknown,
  given: Readonly<Record<string, unknown>>,
  current: KeySettings,
): z.output<typeof mergedSchema> {
  const wire = settingsToWire(current);
  const patches = (input ?? {}) as Readonly<Record<string, unknown>>;
  const names = MERGED_NAMES.filter((name) => given[name] !== undefined && given[name] !== null);
  const merged = names.map((name) => [name, mergePatch(withoutReplaced(wire[name], patches[name]), patches[name])]);
  return parse(mergedSchema, Object.fromEntries(merged));
}

/** Members that a patch replaces as a whole: of two merged public keys nothing would be one. */
const REPLACED = ['recipientJwk'] as const;

function withoutReplaced(target: unknown, patch: unknown): unknown {
  if (!isPlainObject(target) || !isPlainObject(patch)) return target;
  const isReplaced = (name: string): boolean => REPLACED.some((one) => one === name && isPlainObject(patch[one]));
  return Object.fromEntries(Object.entries(target).filter(([name]) => !isReplaced(name)));
}

/** Deeper than any setting may be. Deeper levels are not merged and are then refused. */
const PATCH_DEPTH_MAX = 16;

/** Merges as RFC 7396 says. Undefined members are ignored; lists and other values replace the target. */
export function mergePatch(target: unknown, patch: unknown, depthLeft: number = PATCH_DEPTH_MAX): unknown {
  if (!isPlainObject(patch) || depthLeft === 0) return patch;
  // Copied by entries: an assignment would run the setter of `__proto__`.
  const merged = new Map<string, unknown>(isPlainObject(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else if (value !== undefined) merged.set(name, mergePatch(merged.get(name), value, depthLeft - 1));
  }
  return Object.fromEntries(merged);
}
