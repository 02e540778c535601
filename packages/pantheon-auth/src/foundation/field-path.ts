/**
 * The path of a field in errors, as in `rateLimits[0].window`. A name that was sent is part of it only if it cannot be a
 * secret that was pasted in the wrong place.
 */

/**
 * Shorter than any generated secret: 128 bits are 22 characters of base64url. No field of this service has a longer name. A
 * short password in the place of a name is not recognised.
 */
const SHOWABLE_NAME = /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}$/;

/** The name, if an error may repeat it. */
export function showableName(name: string): string | null {
  return SHOWABLE_NAME.test(name) ? name : null;
}

/** Joins names and indexes. A name that may not be repeated is `?`. Of no parts the empty text. */
export function fieldPath(parts: readonly PropertyKey[]): string {
  return parts.reduce<string>((path, part) => {
    if (typeof part === 'number') return `${path}[${part}]`;
    const name = showableName(String(part)) ?? '?';
    return path === '' ? name : `${path}.${name}`;
  }, '');
}
