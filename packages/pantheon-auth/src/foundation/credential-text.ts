/**
 * What keys and tokens look like in other text: in URLs and user agents, which are logged, and in what users write about
 * keys, which is displayed. Any key prefix matches, so that keys of other installations are found too.
 *
 * There are two measures. A log must not contain the beginning of a secret, so one character of it, or a token that was
 * cut off, is enough. What a user wrote is refused only if it is no accident.
 */

import { fieldPath } from './field-path.ts';
import { ID_LENGTH } from './ids.ts';

const ANY_PREFIX = '[a-z0-9]{2,16}';
/**
 * The first part of a token. It is a JSON object, so it begins with `{"` in base64url. The lookbehind keeps the search
 * linear.
 */
const TOKEN_HEADER = String.raw`(?<![\w-])eyJ[\w-]{8,}`;

/** A key string with this prefix, or its beginning with one character of the secret: the hint of a key is public. */
export function exposedKeyPattern(keyPrefix: string = ANY_PREFIX): string {
  return `${keyPrefix}_(?:live|test)_[0-9A-Za-z]{${ID_LENGTH + 1}}`;
}

/** A whole token. Its first part is captured. */
export const WHOLE_TOKEN: RegExp = new RegExp(String.raw`(${TOKEN_HEADER})\.[\w-]+\.[\w-]+`, 'g');

/** For logs. */
const CREDENTIAL = new RegExp(
  String.raw`${exposedKeyPattern()}[0-9A-Za-z]*|${TOKEN_HEADER}\.[\w-]+(?:\.[\w-]*)?`,
  'gi',
);

/** 65 characters follow the environment (`docs/key-format.md`). */
const KEY_STRING = new RegExp(`${ANY_PREFIX}_(?:live|test)_[0-9A-Za-z]{65}`, 'g');
/** Each key string found costs a lookup. */
const KEYS_FOUND_MAX = 2;

/** Whether a text, such as a path and query, contains a credential or the beginning of one, plain or percent-encoded. */
export function holdsCredential(text: string): boolean {
  return text.search(CREDENTIAL) !== -1 || (text.includes('%') && percentDecoded(text).search(CREDENTIAL) !== -1);
}

/**
 * The text without anything that looks like a credential or the beginning of one, for logs. If one is percent-encoded, the
 * text is decoded.
 *
 * @example
 * ```ts
 * import { withoutCredentials } from 'pantheon-auth';
 * const line = withoutCredentials('GET /reports?key=pan_live_4fGh2kLmNp0QrStUa'); // GET /reports?key=[credential]
 * ```
 */
export function withoutCredentials(text: string): string {
  const plain = text.includes('%') && holdsCredential(text) ? percentDecoded(text) : text;
  return plain.replace(CREDENTIAL, '[credential]');
}

/** Complete key strings in a text, plain or percent-encoded; the first two. */
export function keyStringsIn(text: string): readonly string[] {
  return [...new Set(percentDecoded(text).match(KEY_STRING))].slice(0, KEYS_FOUND_MAX);
}

/** A credential found in a value that a user wrote. */
export interface FoundCredential {
  /** The path of the member that contains it. A member name that is itself a credential is shown as `?`. */
  readonly field: string;
  /** Complete key strings in it, to be looked up. */
  readonly keys: readonly string[];
}

/**
 * Prefix, environment and id are public and occur in names. With 16 characters of the secret a match is no accident.
 */
const SURELY_A_KEY = /[a-z0-9]_(?:live|test)_[0-9A-Za-z]{32}/;
/** Header and payload are JSON objects. */
const SURELY_A_TOKEN = new RegExp(String.raw`${TOKEN_HEADER}\.eyJ[\w-]{8,}\.[\w-]{16,}`);

/** A shorter text matches neither of the two. */
const CREDENTIAL_LENGTH_MIN = 39;

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
  const plain = percentDecoded(text);
  return SURELY_A_KEY.test(plain) || SURELY_A_TOKEN.test(plain) ? keyStringsIn(plain) : null;
}

/** For credentials in a pasted URL. Invalid escapes are left unchanged: no server would decode them to a credential. */
function percentDecoded(text: string): string {
  if (!text.includes('%')) return text;
  return text.replace(/%[0-7][0-9a-f]/gi, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)));
}

function fieldOf(place: Place): string {
  const parts: PropertyKey[] = [];
  for (let at = place; at.within !== null; at = at.within) parts.push(at.isItem ? Number(at.name) : at.name);
  return fieldPath(parts.reverse());
}
