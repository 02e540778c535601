/**
 * Encodings of bytes and values as text: base 62 for keys and ids, base64url for tokens, canonical JSON for hashing.
 * Every decoder is strict: it accepts only the text that its encoder writes.
 */
import canonicalizeJson from 'canonicalize';
import { invariant } from './errors.ts';

export const BASE62_ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

const DIGIT_OF = new Int8Array(128).fill(-1);
for (let digit = 0; digit < 62; digit += 1) DIGIT_OF[BASE62_ALPHABET.charCodeAt(digit)] = digit;

/** As many digits as a `number` holds exactly. Dividing a `bigint` digit by digit takes five times as long. */
const GROUP_DIGITS = 8;
const GROUP = 62n ** BigInt(GROUP_DIGITS);

/** Writes bytes as one big-endian number in base 62, left-padded with `0` to `width`. */
export function encodeBase62(bytes: Uint8Array, width: number): string {
  let rest = bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  let text = '';
  while (rest > 0n) {
    let group = Number(rest % GROUP);
    rest /= GROUP;
    // Groups are padded with zeros except the first, which has none in front.
    for (let digit = 0; digit < GROUP_DIGITS && (rest > 0n || group > 0); digit += 1) {
      text = BASE62_ALPHABET.charAt(group % 62) + text;
      group = Math.floor(group / 62);
    }
  }
  invariant(text.length <= width, 'the width holds every value of that many bytes');
  return text.padStart(width, '0');
}

/** Reads what {@link encodeBase62} wrote; null when a character or the size does not fit. */
export function decodeBase62(text: string, byteLength: number): Buffer | null {
  let value = 0n;
  for (let at = 0; at < text.length; at += 1) {
    const digit = DIGIT_OF[text.charCodeAt(at)] ?? -1;
    if (digit < 0) return null;
    value = value * 62n + BigInt(digit);
  }
  const hex = value.toString(16).padStart(byteLength * 2, '0');
  return hex.length > byteLength * 2 ? null : Buffer.from(hex, 'hex');
}

/** Reads base64url without padding (RFC 7515 section 2); null unless re-encoding gives the same text. */
export function decodeBase64url(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : null;
}

/** A JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** Whether a value is an object of members only. `JSON.stringify` would write a Date or a Map as a different value. */
export function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** RFC 8785 (JCS): the same text for equal values, as hashing requires. Undefined members are omitted. */
export function canonicalJson(value: object): string {
  const text = canonicalizeJson(value);
  invariant(text !== undefined, 'an object always has a canonical form');
  return text;
}

/** Whether two values are the same JSON. The order of members does not count. */
export function isSameJson(one: Json | undefined, other: Json | undefined): boolean {
  return canonicalJson({ value: one }) === canonicalJson({ value: other });
}

/** Joins byte strings so that no two different lists give the same bytes: each is preceded by its length (4 bytes, big-endian). */
export function lengthPrefixed(parts: readonly (string | Uint8Array)[]): Buffer {
  const pieces: Buffer[] = [];
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part, 'utf8') : Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    pieces.push(length, bytes);
  }
  return Buffer.concat(pieces);
}
