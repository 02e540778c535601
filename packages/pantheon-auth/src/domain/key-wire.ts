/**
 * How the settings of a key are written outside: in events, in the API and, sealed, in rows. One mapping in each
 * direction, so that what the log says and what the API shows can never differ.
 */
import { isSameJson, type Json, type JsonObject } from '../foundation/encoding.ts';
import { KEY_SETTING_NAMES, KEY_SETTINGS, mapSettings, type SettingName } from './key-setting-table.ts';
import type { KeySettings } from './key-settings.ts';

/** Settings in wire form, under the same names as in `KeySettings`. */
export type SettingsWire = { readonly [Name in SettingName]: Json };

export function settingsToWire(settings: KeySettings): SettingsWire {
  const wire = KEY_SETTING_NAMES.map((name) => [name, settingToWire(name, settings)]);
  return Object.fromEntries(wire) as SettingsWire;
}

/** One setting in wire form. */
export function settingToWire<Name extends SettingName>(name: Name, settings: Pick<KeySettings, Name>): Json {
  return KEY_SETTINGS[name].wire.toWire(settings[name]);
}

/** The settings that differ, in wire form, before and after; null: none differs. */
export function changedSettings(
  before: KeySettings,
  after: KeySettings,
): { readonly before: Partial<SettingsWire>; readonly after: Partial<SettingsWire> } | null {
  const [was, is] = [settingsToWire(before), settingsToWire(after)];
  // Who sends back what was read changes nothing, also with its members in another order.
  const names = KEY_SETTING_NAMES.filter((name) => !isSameJson(was[name], is[name]));
  const pick = (from: SettingsWire): JsonObject => Object.fromEntries(names.map((name) => [name, from[name]]));
  return names.length === 0 ? null : { before: pick(was), after: pick(is) };
}

/**
 * Settings from wire form that we wrote ourselves. Personal ones that were erased from the log come back empty, so that
 * a replay still gives everything that decides. A value that this version does not know (of a later version, say, or of a
 * damaged row) is an error: read past, it could open what it was meant to close.
 *
 * @throws Error that names the setting, never its value.
 */
export function settingsFromWire(wire: JsonObject): KeySettings {
  return mapSettings((name) => KEY_SETTINGS[name].wire.fromWire(wire[name], name));
}
