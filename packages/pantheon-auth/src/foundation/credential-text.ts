/**
 * Finds credentials in text that users write about keys: names, descriptions, reasons, metadata. Such texts are
 * displayed and logged, so a key in one is no longer secret. Any key prefix matches, so that keys of other
 * installations are found too.
 */

import { fieldPath } from './field-path.ts';

/** A credential found in a value. */
export interface FoundCredential {
  /** The path of the member that contains it. A member name that is itself a credential is shown as `?`. */
  readonly field: string;
  /** Complete key strings in it, to be looked up. */
  readonly keys: readonly string[];
}

/**
 * Prefix, environment and id are public and occur in names. With 16 characters of the secret a match is no accident.
 */
const LIKE_A_KEY = /[a-z0-9]_(?:live|test)_[0-9A-Za-z]{32}/;
/** 65 characters follow the environment (`docs/key-format.md`). */
const KEY_STRING = /[a-z0-9]{2,16}_(?:live|test)_[0-9A-Za-z]{65}(?![0-9A-Za-z])/g;
/** A signed JWT. Header and payload are JSON objects, so both begin with `{"` in base64url. */
const LIKE_A_TOKEN = /(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}/;

/** A shorter text matches neither of the two. */
const CREDENTIAL_LENGTH_MIN = 39;

const KEYS_FOUND_MAX = 2;
/** Far more values than the largest accepted body has. */
const VALUES_MAX = 100_000;

/** A value within another one. */
interface Place {
  readonly value: unknown;
  readonly name: string;
  readonly isItem: boolean;
  /** Null: this is the outermost value. */
  readonly within: Place | null;
}

/** The first text in a value, at any depth, that contains a credential. Member names are checked too. */
export function findCredential(value: object): FoundCredential | null {
  const open: Place[] = [{ value, name: '', isItem: false, within: null }];
  for (let seen = 0; seen < VALUES_MAX; seen += 1) {
    const place = open.pop();
    if (place === undefined) return null;
    const inName = place.isItem ? null : credentialIn(place.name);
    if (inName !== null) return { field: fieldOf({ ...place, name: '?' }), keys: inName };
    const inText = typeof place.value === 'string' ? credentialIn(place.value) : null;
    if (inText !== null) return { field: fieldOf(place), keys: inText };
    if (typeof place.value !== 'object' || place.value === null) continue;
    const isItem = Array.isArray(place.value);
    const names = Object.keys(place.value);
    for (let at = names.length - 1; at >= 0; at -= 1) {
      const name = names[at] ?? '';
      const member = place.value[name as keyof object] as unknown;
      if (mayHold(name) || mayHold(member)) open.push({ value: member, name, isItem, within: place });
    }
  }
  return null;
}

/** Whether a value is long enough for a credential, or contains other values. Most members of a body are neither. */
function mayHold(value: unknown): boolean {
  return typeof value === 'string' ? value.length >= CREDENTIAL_LENGTH_MIN : typeof value === 'object';
}

/** The complete key strings in a text that contains a credential. Null: it contains none. */
function credentialIn(text: string): readonly string[] | null {
  const plain = decoded(text);
  if (!LIKE_A_KEY.test(plain) && !LIKE_A_TOKEN.test(plain)) return null;
  return [...new Set(plain.match(KEY_STRING))].slice(0, KEYS_FOUND_MAX);
}

/** The text without anything that looks like a credential. */
export function withoutCredentials(text: string): string {
  return findCredential([text]) === null ? text : '[credential]';
}

/** The percent-decoded text, for credentials in a pasted URL. Invalid escapes are left unchanged. */
function decoded(text: string): string {
  if (!text.includes('%')) return text;
  return text.replace(/%[0-7][0-9a-f]/gi, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)));
}

function fieldOf(place: Place): string {
  const parts: PropertyKey[] = [];
  for (let at = place; at.within !== null; at = at.within) parts.push(at.isItem ? Number(at.name) : at.name);
  return fieldPath(parts.reverse());
}
