/**
 * A key as the columns of its rows, and back. Settings are where `domain/key-setting-table.ts` says. What is sealed, and
 * that the rows belong together, is `key-storage.ts`.
 */
import { type KeyRecord, type KeySettings, type KeyState, type KeyVersion, VERSIONS_KEPT_MAX } from '../domain/key.ts';
import {
  KEY_SETTING_NAMES,
  KEY_SETTINGS,
  mapSettings,
  SETTING_COLUMNS,
  type SettingColumns,
  type SettingName,
} from '../domain/key-setting-table.ts';
import { settingToWire } from '../domain/key-wire.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../schema/api-key-row.ts';

/** What is not sealed of the row. */
export type OpenKeyRow = Omit<ApiKeyRow, 'sealed'>;
export type OpenVersionRow = Omit<ApiKeyVersionRow, 'sealed'>;

const SETTINGS_WITH_COLUMN = KEY_SETTING_NAMES.filter((name) => SETTING_COLUMNS[name] !== null);
const SETTINGS_WITHOUT_COLUMN = KEY_SETTING_NAMES.filter((name) => SETTING_COLUMNS[name] === null);

export function keyToRow(record: KeyRecord): OpenKeyRow {
  return {
    ...settingsToCells(record),
    id: record.id,
    tenant_id: record.tenantId,
    state: record.state.kind,
    state_at: record.state.kind === 'active' ? null : record.state.at,
    state_reason: record.state.kind === 'active' ? null : record.state.reason,
    created_at: record.createdAt,
    created_by: record.createdBy,
    tokens_not_before: record.tokensNotBefore,
    jwt_algorithm: record.jwt?.algorithm ?? null,
    version: record.version,
    kept_versions: keptVersionsOf(record),
    revision: record.revision,
    id_tag: record.idTag,
  };
}

/** Null for almost every key: only after a rollback the current version is not the newest. */
function keptVersionsOf({ version, versions }: KeyRecord): string | null {
  const numbers = versions.map((one) => one.version);
  const usual = withoutGap(version);
  const isUsual = numbers.length === usual.length && numbers.every((number, at) => number === usual[at]);
  return isUsual ? null : JSON.stringify(numbers);
}

/** The numbers of the versions that a key must have. @throws Error when the row does not tell. */
export function versionsToHave({
  version,
  kept_versions,
}: Pick<ApiKeyRow, 'version' | 'kept_versions'>): readonly number[] {
  if (kept_versions === null) return withoutGap(version);
  const numbers: unknown = JSON.parse(kept_versions);
  const isList = Array.isArray(numbers) && numbers.every(Number.isSafeInteger) && numbers.includes(version);
  if (!isList) throw new Error('Its versions cannot be read.');
  return numbers as readonly number[];
}

function withoutGap(current: number): readonly number[] {
  return Array.from({ length: Math.min(current, VERSIONS_KEPT_MAX) }, (_, at) => current - at);
}

/** The settings that have no column, in wire form. */
export function settingsToSeal(settings: KeySettings): JsonObject {
  return Object.fromEntries(SETTINGS_WITHOUT_COLUMN.map((name) => [name, settingToWire(name, settings)]));
}

export function versionToRow(record: KeyRecord, version: KeyVersion): OpenVersionRow {
  return {
    key_id: record.id,
    tenant_id: record.tenantId,
    version: version.version,
    created_at: version.createdAt,
    accepted_until: version.acceptedUntil,
    retires_on_first_use: version.retiresOnFirstUse === true ? 1 : null,
    revision: record.revision,
  };
}

/** @throws Error for what this version cannot read: it could be something that refuses. */
export function keyFromRows(row: OpenKeyRow, versions: readonly OpenVersionRow[], opened: JsonObject): KeyRecord {
  return {
    ...mapSettings((name) => settingFromRow(name, row, opened)),
    id: row.id,
    tenantId: row.tenant_id,
    createdAt: row.created_at,
    createdBy: row.created_by,
    state: stateOf(row),
    tokensNotBefore: row.tokens_not_before,
    version: row.version,
    versions: versions.map((version) => ({
      version: version.version,
      createdAt: version.created_at,
      acceptedUntil: version.accepted_until,
      ...(version.retires_on_first_use === 1 && { retiresOnFirstUse: true as const }),
    })),
    revision: row.revision,
    idTag: row.id_tag,
  };
}

function settingsToCells(settings: KeySettings): SettingColumns {
  const cells = SETTINGS_WITH_COLUMN.map((name) => [SETTING_COLUMNS[name], settingToCell(name, settings)]);
  return Object.fromEntries(cells) as SettingColumns;
}

function settingToCell(name: SettingName, settings: KeySettings): SettingColumns[keyof SettingColumns] {
  const value = settings[name];
  if (value === null || typeof value !== 'object') return value;
  return JSON.stringify(settingToWire(name, settings));
}

function settingFromRow<Name extends SettingName>(
  name: Name,
  row: SettingColumns,
  opened: JsonObject,
): KeySettings[Name] {
  const { wire, storedAs } = KEY_SETTINGS[name];
  const column = SETTING_COLUMNS[name];
  if (column === null) return wire.fromWire(opened[name] ?? null, name);
  const cell: string | number | null = row[column];
  // Times are read as they are: they pass through the wire form only at the edges.
  if (storedAs === 'number') return cell as KeySettings[Name];
  return wire.fromWire(storedAs === 'text' || cell === null ? cell : JSON.parse(String(cell)), name);
}

function stateOf({ state: kind, state_at: at, state_reason: reason }: OpenKeyRow): KeyState {
  if (kind === 'active') return { kind };
  if ((kind === 'suspended' || kind === 'revoked') && at !== null) return { kind, at, reason };
  throw new Error('Its state is one that this version does not know.');
}
