/**
 * Finds texts that look like keys or tokens in text that is logged: URLs, user agents, error messages. Any key prefix
 * matches, so that keys of other installations are not logged either.
 */

/**
 * Matches the public part of a key and one character of its secret, or a token by the beginning of its header, `{"`.
 */
const CREDENTIAL = /[a-z0-9]{2,16}_(?:live|test)_[0-9A-Za-z]{17,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/gi;

/** Whether a path and query contain a credential, plain or percent-encoded. */
export function holdsCredential(url: string): boolean {
  return url.search(CREDENTIAL) !== -1 || (url.includes('%') && decoded(url).search(CREDENTIAL) !== -1);
}

/** The key strings in a path and query. */
export function keysIn(url: string): readonly string[] {
  return [...new Set(decoded(url).match(KEY_STRING))].slice(0, KEYS_REPORTED_MAX);
}

/** 65 characters follow the environment (`docs/key-format.md`). */
const KEY_STRING = /[a-z0-9]{2,16}_(?:live|test)_[0-9A-Za-z]{65}/g;
/** Each key found costs a lookup. */
const KEYS_REPORTED_MAX = 2;

/** The text without anything that looks like a credential. */
export function withoutCredentials(text: string): string {
  return text.replace(CREDENTIAL, '[credential]');
}

/** Invalid percent escapes are left unchanged: no server would decode them to a credential. */
function decoded(text: string): string {
  return text.replace(/%[0-7][0-9a-f]/gi, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)));
}
