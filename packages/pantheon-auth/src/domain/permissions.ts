/**
 * The permission language: `segment(:segment)*`, with `*` only as the last segment, where it matches one or more.
 * Matching takes linear time: no regular expression here backtracks, and many permissions are matched with many
 * patterns by looking up the few patterns that could cover each. Which permissions a caller may grant is in
 * `key-policy.ts`.
 */

/** The longest permission. */
export const PERMISSION_LENGTH_MAX = 128;
export const PERMISSION_SEGMENTS_MAX = 8;
/** The most permissions of a key, which bounds the cost of a verification. Use patterns if you need more. */
export const PERMISSIONS_MAX = 256;

/**
 * Permissions for managing this service. A bare `*` never covers them, so an administrator of an application does not
 * manage keys.
 */
export const RESERVED_PREFIX = 'pantheon:';

/** Up to {@link PERMISSION_SEGMENTS_MAX} segments. Segments contain no colon, so there is only one way to match. */
const PERMISSION = /^[a-z0-9._-]+(?::[a-z0-9._-]+){0,7}$/;
const PATTERN = /^(?:[a-z0-9._-]+:){0,7}(?:[a-z0-9._-]+|\*)$/;

/** Whether the text is a permission pattern, as keys have. */
export function isPermissionPattern(text: string): boolean {
  return typeof text === 'string' && text.length <= PERMISSION_LENGTH_MAX && PATTERN.test(text);
}

/** Whether the text is one concrete permission, as requests ask for. `*` is never one. */
export function isPermission(text: string): boolean {
  return typeof text === 'string' && text.length <= PERMISSION_LENGTH_MAX && PERMISSION.test(text);
}

/**
 * Whether `pattern` covers `wanted`. If `wanted` is a pattern, everything that it covers must be covered. Both must be
 * well formed.
 */
export function covers(pattern: string, wanted: string): boolean {
  if (pattern === wanted) return true;
  if (pattern === '*') return !isReserved(wanted);
  if (!pattern.endsWith(':*')) return false;
  const prefix = pattern.slice(0, -1);
  return wanted.length > prefix.length && wanted.startsWith(prefix);
}

/** Whether any of the patterns covers `wanted`. Nothing is granted by default. */
export function grants(patterns: readonly string[], wanted: string): boolean {
  for (const pattern of patterns) if (covers(pattern, wanted)) return true;
  return false;
}

/** Whether the pattern covers management permissions. */
export function isReserved(pattern: string): boolean {
  return pattern.startsWith(RESERVED_PREFIX) || pattern === 'pantheon';
}

/**
 * A set of patterns for many lookups. Building it takes time linear in the patterns, a lookup time linear in the text.
 */
export class PermissionSet {
  readonly #patterns: ReadonlySet<string>;
  readonly #hasWildcards: boolean;

  constructor(patterns: Iterable<string>) {
    this.#patterns = new Set(patterns);
    this.#hasWildcards = [...this.#patterns].some((pattern) => pattern.endsWith('*'));
  }

  /** Whether any of the patterns covers `wanted`: the same answer as {@link grants}. */
  grants(wanted: string): boolean {
    return this.#patterns.has(wanted) || (this.#hasWildcards && this.covering(wanted).length > 0);
  }

  /** The patterns that cover `wanted`, each once. */
  covering(wanted: string): readonly string[] {
    const candidates = this.#hasWildcards ? [wanted, ...wildcardsOver(wanted)] : [wanted];
    return candidates.filter((pattern) => this.#patterns.has(pattern));
  }
}

/** All other patterns that cover `wanted`: a wildcard after each of its colons, and `*`. */
function wildcardsOver(wanted: string): readonly string[] {
  const wildcards = wanted === '*' || isReserved(wanted) ? [] : ['*'];
  // A wildcard matches at least one character.
  for (let colon = wanted.indexOf(':'); colon !== -1 && colon < wanted.length - 1; ) {
    const pattern = `${wanted.slice(0, colon + 1)}*`;
    if (pattern !== wanted) wildcards.push(pattern);
    colon = wanted.indexOf(':', colon + 1);
  }
  return wildcards;
}

/** The intersection: `held` restricted to `wanted`. The result contains the narrower pattern of each pair. */
export function intersect(held: readonly string[], wanted: readonly string[]): string[] {
  const heldSet = new PermissionSet(held);
  const wantedSet = new PermissionSet(wanted);
  /** Held permissions covered by each wanted pattern that is itself not held. */
  const under = new Map<string, string[]>();
  for (const own of held) {
    for (const pattern of wantedSet.covering(own)) {
      const known = under.get(pattern);
      if (known === undefined) under.set(pattern, [own]);
      else known.push(own);
    }
  }
  const both = new Set<string>();
  for (const pattern of wanted) {
    if (heldSet.grants(pattern)) both.add(pattern);
    else for (const own of under.get(pattern) ?? []) both.add(own);
  }
  return [...both];
}
