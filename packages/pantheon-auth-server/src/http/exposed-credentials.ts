/**
 * Finds what looks like a credential of ours in text that gets written down: addresses, user agents, error messages. The
 * prefix is not looked at, so that a key of another installation is not written down either.
 */

/** The public part of a key and one character of its secret are enough to know one; a token is known by the start of its header, `{"`. */
const CREDENTIAL = /[a-z0-9]{2,16}_(?:live|test)_[0-9A-Za-z]{17,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/gi;

/** Whether a path and query hold a credential, written plainly or percent-encoded. */
export function holdsCredential(url: string): boolean {
  return url.search(CREDENTIAL) !== -1 || (url.includes('%') && decoded(url).search(CREDENTIAL) !== -1);
}

/** The key strings in a path and query. */
export function keysIn(url: string): readonly string[] {
  return [...new Set(decoded(url).match(KEY_STRING))].slice(0, KEYS_REPORTED_MAX);
}

/** 65 characters follow the environment (`docs/key-format.md`). */
const KEY_STRING = /[a-z0-9]{2,16}_(?:live|test)_[0-9A-Za-z]{65}/g;
/** Each is looked up. */
const KEYS_REPORTED_MAX = 2;

/** The text with everything that looks like a credential taken out. */
export function withoutCredentials(text: string): string {
  return text.replace(CREDENTIAL, '[credential]');
}

/** Escapes that are not valid stay as they are: they hide nothing. */
function decoded(text: string): string {
  return text.replace(/%[0-7][0-9a-f]/gi, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)));
}
