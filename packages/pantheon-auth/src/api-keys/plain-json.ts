/** JSON that callers give us to keep: plain values only, so that what is read back is what was given. */
import { canonicalJson, type JsonObject } from '../foundation/encoding.ts';
import { FORBIDDEN_MEMBERS } from '../foundation/strict-json.ts';

/** Whether it is plain JSON within these bounds. */
export function isSmallJson(value: unknown, bounds: { readonly depthMax: number; readonly bytesMax: number }): boolean {
  return isPlainJson(value, bounds.depthMax) && Buffer.byteLength(canonicalJson(value as object)) <= bounds.bytesMax;
}

function isPlainJson(value: unknown, depthLeft: number): boolean {
  if (value === null || typeof value === 'boolean') return true;
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || depthLeft === 0) return false;
  // A copy, because `every` passes over the holes of a sparse array.
  if (Array.isArray(value)) return Array.from<unknown>(value).every((item) => isPlainJson(item, depthLeft - 1));
  const prototype: unknown = Object.getPrototypeOf(value);
  // A Date or a Map would be written as something else than what it is.
  if (prototype !== null && prototype !== Object.prototype) return false;
  return Object.entries(value).every(
    ([name, item]) => !FORBIDDEN_MEMBERS.has(name) && name.isWellFormed() && isPlainJson(item, depthLeft - 1),
  );
}

/** Ours alone: what the caller changes later changes no record. */
export function copyOf(value: Readonly<Record<string, unknown>>): JsonObject {
  return JSON.parse(canonicalJson(value)) as JsonObject;
}
