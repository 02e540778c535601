/** Formats keys and their versions for display. */
import type { JsonBody } from './transport.ts';

type Facts = readonly (readonly [name: string, value: string])[];

export const KEY_HEAD: readonly string[] = [
  'ID',
  'NAME',
  'USER',
  'ENV',
  'STATE',
  'VERSION',
  'EXPIRES',
  'LAST USED',
  'USES',
];

export function keyRow(key: JsonBody): readonly string[] {
  // Of a quarantined key only the id is known.
  if (key['quarantined'] === true) return [show(key['id']), '-', '-', '-', 'quarantined', '-', '-', '-', '-'];
  const members = ['id', 'name', 'userId', 'environment', 'state', 'version', 'expiresAt', 'lastUsedAt', 'usageCount'];
  return members.map((member) => (member === 'state' ? stateOf(key) : show(key[member])));
}

/** All members that are set, in the order of the record. */
export function keyFacts(key: JsonBody): Facts {
  const facts = Object.entries(key).filter(([name, value]) => name !== 'isActive' && !isNothing(value));
  return facts.map(([name, value]) => [name, name === 'state' ? stateOf(key) : show(value)]);
}

export const VERSION_HEAD: readonly string[] = [
  'VERSION',
  'STATE',
  'CREATED',
  'ACCEPTED UNTIL',
  'LAST USED',
  'USES',
  'FROM',
];

export function versionRow(version: JsonBody): readonly string[] {
  const members = ['version', 'state', 'createdAt', 'acceptedUntil', 'lastUsedAt', 'usageCount', 'lastAddresses'];
  return members.map((member) => show(version[member]));
}

/** The list of objects in a member of an answer. */
export function listOf(body: JsonBody, member: string): readonly JsonBody[] {
  const list = body[member];
  return Array.isArray(list) ? list.filter((item): item is JsonBody => typeof item === 'object' && item !== null) : [];
}

/** The object in a member of an answer. */
export function objectOf(body: JsonBody, member: string): JsonBody {
  const value = body[member];
  return typeof value === 'object' && value !== null ? (value as JsonBody) : {};
}

/** A key in state `active` that has expired or is not active yet. */
function stateOf(key: JsonBody): string {
  return key['state'] === 'active' && key['isActive'] === false ? 'not active' : show(key['state']);
}

function isNothing(value: unknown): boolean {
  return value === null || value === undefined || (Array.isArray(value) && value.length === 0);
}

/** A value as text in one table cell. */
export function show(value: unknown): string {
  if (isNothing(value)) return '-';
  if (typeof value !== 'object') return String(value);
  const isList = Array.isArray(value) && value.every((item) => typeof item !== 'object');
  return isList ? value.join(' ') : JSON.stringify(value);
}
