/**
 * The permission language: `segment(:segment)*`, with `*` only as the last segment, where it matches one or more.
 * Matching is linear: no expression here can go back over what it has read, and many are matched with many by looking up
 * each of the few patterns that could cover one. What a caller may *put on* a key is `key-policy.ts`.
 */

/** What one key may be asked for or hold. */
export const PERMISSION_LENGTH_MAX = 128;
export const PERMISSION_SEGMENTS_MAX = 8;
/** A key that needs more has the wrong shape: use a wildcard. Bounds the cost of every verification. */
export const PERMISSIONS_MAX = 256;

/** Managing this service itself. A bare `*` never covers it, so an application's admin is not ours. */
export const RESERVED_PREFIX = 'pantheon:';

/** Up to {@link PERMISSION_SEGMENTS_MAX} segments. A colon ends a segment and is in none, so there is one way to match. */
const PERMISSION = /^[a-z0-9._-]+(?::[a-z0-9._-]+){0,7}$/;
const PATTERN = /^(?:[a-z0-9._-]+:){0,7}(?:[a-z0-9._-]+|\*)$/;

/** Whether the text is a permission pattern: as held by a key. */
export function isPermissionPattern(text: string): boolean {
  return typeof text === 'string' && text.length <= PERMISSION_LENGTH_MAX && PATTERN.test(text);
}

/** Whether the text is one concrete permission: as asked for. The literal `*` is never one. */
export function isPermission(text: string): boolean {
  return typeof text === 'string' && text.length <= PERMISSION_LENGTH_MAX && PERMISSION.test(text);
}

/**
 * Whether `pattern` covers `wanted`, which may itself be a pattern: then everything that `wanted` covers is covered.
 * Both are well formed.
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

/** Whether the pattern reaches into what manages this service. */
export function isReserved(pattern: string): boolean {
  return pattern.startsWith(RESERVED_PREFIX) || pattern === 'pantheon';
}

/**
 * The same question about many: a set of patterns that is asked again and again. Making it takes as long as looking at each
 * pattern once, and an answer as long as the text that is asked about.
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

  /** Those of the patterns that cover `wanted`, each once. */
  covering(wanted: string): readonly string[] {
    const candidates = this.#hasWildcards ? [wanted, ...wildcardsOver(wanted)] : [wanted];
    return candidates.filter((pattern) => this.#patterns.has(pattern));
  }
}

/** Every other pattern that covers `wanted`: a wildcard after each of its colons, and the bare one. Each once. */
function wildcardsOver(wanted: string): readonly string[] {
  const wildcards = wanted === '*' || isReserved(wanted) ? [] : ['*'];
  // A wildcard stands for at least one character.
  for (let colon = wanted.indexOf(':'); colon !== -1 && colon < wanted.length - 1; ) {
    const pattern = `${wanted.slice(0, colon + 1)}*`;
    if (pattern !== wanted) wildcards.push(pattern);
    colon = wanted.indexOf(':', colon + 1);
  }
  return wildcards;
}

/** The permissions of both: what is left when `held` is narrowed to `wanted`. Order and wording follow the narrower one. */
export function intersect(held: readonly string[], wanted: readonly string[]): string[] {
  const heldSet = new PermissionSet(held);
  const wantedSet = new PermissionSet(wanted);
  /** What is held under each wanted pattern that is itself not held. */
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
