/** The table of settings is whole: the compiler sees to it (`npm run types` checks the marked lines), and so does each part. */
import fc from 'fast-check';
import { expect, expectTypeOf, test } from 'vitest';
import type { APIKey } from '../api-keys/api-key.ts';
import type { CreateKeyInput, SETTINGS_SCHEMAS } from '../api-keys/key-input.ts';
import type { UpdateKeyInput } from '../api-keys/key-patch.ts';
import type { ApiKeyRow } from '../schema/api-key-row.ts';
import { anyKeySettings } from '../testing/arbitraries.ts';
import { PERSONAL_ATTRIBUTES } from './event-data.ts';
import {
  KEY_SETTING_NAMES,
  KEY_SETTINGS,
  mapSettings,
  SETTING_COLUMNS,
  type Setting,
  type SettingName,
  type SettingTable,
  settingOrDefault,
} from './key-setting-table.ts';
import type { KeySettings } from './key-settings.ts';

interface ColouredSettings extends KeySettings {
  readonly colour: string | null;
}

test('a setting without its row in the table does not compile', () => {
  const colour: Setting<string | null> = { ...KEY_SETTINGS.description };
  const whole: SettingTable<ColouredSettings> = { ...KEY_SETTINGS, colour };
  // @ts-expect-error: the setting has no row.
  const lacking: SettingTable<ColouredSettings> = { ...KEY_SETTINGS };
  // @ts-expect-error: its row is that of a setting with another type.
  const wrong: SettingTable<ColouredSettings> = { ...KEY_SETTINGS, colour: KEY_SETTINGS.quota };
  expect(Object.keys(whole).length - Object.keys(lacking).length).toBe(1);
  expect(Object.keys(wrong)).toEqual(Object.keys(whole));

  // The table is held to the settings, and so are its columns and what callers say and see of a key.
  expectTypeOf(KEY_SETTINGS).toEqualTypeOf<SettingTable<KeySettings>>();
  expectTypeOf<keyof typeof SETTING_COLUMNS>().toEqualTypeOf<SettingName>();
  expectTypeOf<keyof typeof SETTINGS_SCHEMAS>().toEqualTypeOf<Exclude<SettingName, 'environment'>>();
  expectTypeOf<Exclude<SettingName, keyof CreateKeyInput>>().toEqualTypeOf<never>();
  expectTypeOf<Exclude<SettingName, keyof UpdateKeyInput>>().toEqualTypeOf<'environment'>();
  expectTypeOf<Exclude<SettingName, keyof APIKey>>().toEqualTypeOf<never>();
});

test('the columns of settings are those of the row, with what they hold', () => {
  expectTypeOf<Pick<ApiKeyRow, 'user_id' | 'permissions'>>().toEqualTypeOf<{ user_id: string; permissions: string }>();
  expectTypeOf<Pick<ApiKeyRow, 'quota' | 'expires_at'>>().toEqualTypeOf<{
    quota: string | null;
    expires_at: number | null;
  }>();
  const columns = Object.values(SETTING_COLUMNS).filter((column) => column !== null);
  expect(new Set(columns).size).toBe(columns.length);
});

test('every setting is parsed from the wire by its own row of the table', () => {
  fc.assert(
    fc.property(anyKeySettings, (settings) => {
      const back = mapSettings((name) => {
        const { wire } = KEY_SETTINGS[name];
        return wire.fromWire(wire.toWire(settings[name]), name);
      });
      expect(back).toEqual(settings);
    }),
  );
});

test('personal settings are sealed in events, and no other settings of a key are', () => {
  const personal = KEY_SETTING_NAMES.filter((name) => PERSONAL_ATTRIBUTES.has(name));
  expect(personal).toEqual(['userId', 'name', 'description', 'ipAllowlist', 'jwt', 'metadata']);
});

test('a setting that is absent or removed has its default; one without a default is required', () => {
  expect(settingOrDefault('permissions', {})).toEqual([]);
  expect(settingOrDefault('quota', { quota: null })).toBeNull();
  expect(settingOrDefault('environment', { environment: 'test' })).toBe('test');
  expect(() => settingOrDefault('userId', {})).toThrow('a setting without a default is named');
});
