/** Checks JSON from callers that is stored: plain values only, so that reading returns what was given. */
import { canonicalJson, isPlainObject, type JsonObject } from '../foundation/encoding.ts';
import { FORBIDDEN_MEMBERS } from '../foundation/strict-json.ts';

/** Whether a value is plain JSON within these bounds. */
export function isSmallJson(value: unknown, bounds: { readonly depthMax: number; readonly bytesMax: number }): boolean {
  return isPlainJson(value, bounds.depthMax) && Buffer.byteLength(canonicalJson(value as object)) <= bounds.bytesMax;
}

function isPlainJson(value: unknown, depthLeft: number): boolean {
  if (value === null || typeof value === 'boolean') return true;
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || depthLeft === 0) return false;
  // Copied, because `every` skips the holes of a sparse array.
  if (Array.isArray(value)) return Array.from<unknown>(value).every((item) => isPlainJson(item, depthLeft - 1));
  if (!isPlainObject(value)) return false;
  return Object.entries(value).every(
    ([name, item]) => !FORBIDDEN_MEMBERS.has(name) && name.isWellFormed() && isPlainJson(item, depthLeft - 1),
  );
}

/** A copy, so that later changes by the caller do not change the record. */
export function copyOf(value: Readonly<Record<string, unknown>>): JsonObject {
  return JSON.parse(canonicalJson(value)) as JsonObject;
}
