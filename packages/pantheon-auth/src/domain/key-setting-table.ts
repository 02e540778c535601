/**
 * Every setting of a key, once: how it is written outside, where its row holds it, what it is by default, whether it is
 * personal, and who may change it. Input, events, the API and rows are driven by this table. A setting that is missing in
 * a part of it does not compile.
 */
import { invariant } from '../foundation/errors.ts';
import type { KeySettings } from './key-settings.ts';
import {
  ADDRESS_RANGES,
  ENVIRONMENT,
  INSTANT,
  JWT,
  OPTIONAL_TEXT,
  PLAIN_OBJECT,
  QUOTA,
  RATE_LIMITS,
  ROTATION,
  TEXT,
  TEXTS,
  type WireCodec,
} from './setting-codecs.ts';

export type SettingName = keyof KeySettings;

/** The column of the key's row that holds the setting. Null: it is sealed in that row, in wire form under its name. */
export const SETTING_COLUMNS = {
  userId: 'user_id',
  name: 'name',
  description: 'description',
  environment: 'environment',
  permissions: 'permissions',
  grantable: 'grantable',
  notBefore: 'not_before',
  expiresAt: 'expires_at',
  rateLimits: 'rate_limits',
  quota: 'quota',
  ipAllowlist: 'ip_allowlist',
  rotation: 'rotation',
  jwt: null,
  metadata: null,
} as const;

/** The columns of those that have one, and what is in them. */
export type SettingColumns = {
  -readonly [Name in SettingName as NonNullable<(typeof SETTING_COLUMNS)[Name]>]: CellOf<KeySettings[Name]>;
};

/** Times are numbers; text is as it is; everything else is JSON text of its wire form. */
type CellOf<Value> = (NonNullable<Value> extends number ? number : string) | Extract<Value, null>;
type StoredAs<Value> =
  NonNullable<Value> extends number ? 'number' : NonNullable<Value> extends string ? 'text' : 'json';

export interface Setting<Value> {
  readonly wire: WireCodec<Value>;
  readonly storedAs: StoredAs<Value>;
  /** What a key is made with that does not name it, and what is there once it is taken away. Missing: it must be named. */
  readonly byDefault?: Value;
  /** Whether it may say something about a person, or was given to us in confidence: then events hold it sealed. */
  readonly isPersonal: boolean;
  /** Whether a key may change it of itself. Only what decides nothing. */
  readonly holderMayChange: boolean;
}

export type SettingTable<Settings> = { readonly [Name in keyof Settings]: Setting<Settings[Name]> };

const POLICY = { isPersonal: false, holderMayChange: false } as const;
const PERSONAL_POLICY = { isPersonal: true, holderMayChange: false } as const;
/** For people. It decides nothing. */
const WORDS = { isPersonal: true, holderMayChange: true } as const;

/** In the order in which they are shown and written. */
export const KEY_SETTINGS: SettingTable<KeySettings> = {
  userId: { ...PERSONAL_POLICY, wire: TEXT, storedAs: 'text' },
  name: { ...WORDS, wire: TEXT, storedAs: 'text' },
  description: { ...WORDS, wire: OPTIONAL_TEXT, storedAs: 'text', byDefault: null },
  environment: { ...POLICY, wire: ENVIRONMENT, storedAs: 'text', byDefault: 'live' },
  permissions: { ...POLICY, wire: TEXTS, storedAs: 'json', byDefault: [] },
  grantable: { ...POLICY, wire: TEXTS, storedAs: 'json', byDefault: [] },
  notBefore: { ...POLICY, wire: INSTANT, storedAs: 'number', byDefault: null },
  expiresAt: { ...POLICY, wire: INSTANT, storedAs: 'number', byDefault: null },
  rateLimits: { ...POLICY, wire: RATE_LIMITS, storedAs: 'json', byDefault: [] },
  quota: { ...POLICY, wire: QUOTA, storedAs: 'json', byDefault: null },
  ipAllowlist: { ...PERSONAL_POLICY, wire: ADDRESS_RANGES, storedAs: 'json', byDefault: [] },
  rotation: { ...POLICY, wire: ROTATION, storedAs: 'json', byDefault: null },
  jwt: { ...PERSONAL_POLICY, wire: JWT, storedAs: 'json', byDefault: null },
  metadata: { ...WORDS, wire: PLAIN_OBJECT, storedAs: 'json', byDefault: null },
};

export const KEY_SETTING_NAMES: readonly SettingName[] = Object.keys(KEY_SETTINGS) as SettingName[];

/** Settings, each made from its name. */
export function mapSettings(make: <Name extends SettingName>(name: Name) => KeySettings[Name]): KeySettings {
  return Object.fromEntries(KEY_SETTING_NAMES.map((name) => [name, make(name)])) as unknown as KeySettings;
}

/** What somebody says of a key. Undefined: nothing. Null: it is taken away. */
export type NamedSettings = { readonly [Name in SettingName]?: KeySettings[Name] | null | undefined };

/** The setting as it was named, or what it is by default. */
export function settingOrDefault<Name extends SettingName>(name: Name, named: NamedSettings): KeySettings[Name] {
  const value = named[name] ?? KEY_SETTINGS[name].byDefault;
  invariant(value !== undefined, 'a setting without a default is named');
  return value as KeySettings[Name];
}
