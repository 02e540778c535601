import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { anyPermission, anyPermissionPattern } from '../testing/arbitraries.ts';
import {
  covers,
  grants,
  intersect,
  isPermission,
  isPermissionPattern,
  isReserved,
  PERMISSION_LENGTH_MAX,
  PERMISSION_SEGMENTS_MAX,
  PERMISSIONS_MAX,
  PermissionSet,
} from './permissions.ts';

const patterns = fc.array(anyPermissionPattern, { maxLength: 5 });

/** The meaning, spelled out by segments: an independent second opinion on one concrete permission. */
function matches(pattern: string, permission: string): boolean {
  const own = pattern.split(':');
  const wanted = permission.split(':');
  if (own.at(-1) !== '*') return pattern === permission;
  const prefix = own.slice(0, -1);
  if (prefix.length === 0 && wanted[0] === 'pantheon') return false;
  return wanted.length > prefix.length && prefix.every((segment, at) => segment === wanted[at]);
}

describe('the language', () => {
  test.each([
    'a',
    'a:b',
    'a:*',
    '*',
    'reports:read',
    'a.b_c-d:0',
    'a:b:c:d:e:f:g:h',
    'a:b:c:d:e:f:g:*',
    'x'.repeat(128),
  ])('%s is a pattern', (text) => {
    expect(isPermissionPattern(text)).toBe(true);
    expect(isPermission(text)).toBe(!text.endsWith('*'));
  });

  test.each([
    ...['', ':', 'a:', ':a', 'a::b', 'A', 'a b', ' a', 'a\n', 'a:\u0000', 'é', 'a/b', 'a,b', '__proto__:A'],
    ...['**', 'a*', '*a', 'a:*:b', '*:a', '*:*', 'a:b*', 'a:**'],
    'a:b:c:d:e:f:g:h:i',
    'x'.repeat(PERMISSION_LENGTH_MAX + 1),
  ])('%j is not a pattern', (text) => {
    expect(isPermissionPattern(text)).toBe(false);
    expect(isPermission(text)).toBe(false);
  });

  test('the generated permissions are well formed', () => {
    fc.assert(fc.property(anyPermission, (permission) => isPermission(permission)));
    fc.assert(fc.property(anyPermissionPattern, (pattern) => isPermissionPattern(pattern)));
  });
});

describe('covering', () => {
  test.each([
    ['reports:read', 'reports:read', true],
    ['reports:read', 'reports:write', false],
    ['reports:read', 'reports', false],
    ['reports', 'reports:read', false],
    ['reports:*', 'reports:read', true],
    ['reports:*', 'reports:read:all', true],
    ['reports:*', 'reports', false],
    ['reports:*', 'reportsx:read', false],
    ['reports:*', 'reports:*', true],
    ['reports:*', 'reports:read:*', true],
    ['reports:read:*', 'reports:*', false],
    ['reports:read', 'reports:*', false],
    ['reports:*', '*', false],
    ['*', 'reports', true],
    ['*', 'reports:*', true],
    ['*', '*', true],
    ['*', 'pantheonx:keys', true],
    ['*', 'pantheon.keys', true],
  ])('%s over %s: %s', (pattern, wanted, expected) => {
    expect(covers(pattern, wanted)).toBe(expected);
  });

  describe('managing this service', () => {
    test.each([
      ['*', 'pantheon', false],
      ['*', 'pantheon:*', false],
      ['*', 'pantheon:keys:create', false],
      ['pantheon', 'pantheon', true],
      ['pantheon', 'pantheon:keys', false],
      ['pantheon:*', 'pantheon', false],
      ['pantheon:*', '*', false],
      ['pantheon:*', 'pantheon:*', true],
      ['pantheon:*', 'pantheon:keys:create', true],
      ['pantheon:keys:*', 'pantheon:keys:create', true],
      ['pantheon:keys:*', 'pantheon:tokens:issue', false],
      ['pantheon:keys:*', 'pantheon:*', false],
    ])('%s over %s: %s', (pattern, wanted, expected) => {
      expect(covers(pattern, wanted)).toBe(expected);
    });

    test.each([
      ['pantheon', true],
      ['pantheon:*', true],
      ['pantheon:keys:create', true],
      ['pantheonx', false],
      ['pantheonx:a', false],
      ['a:pantheon', false],
      ['*', false],
    ])('%s is reserved: %s', (pattern, expected) => {
      expect(isReserved(pattern)).toBe(expected);
    });
  });

  test('of one permission is decided by its segments', () => {
    fc.assert(
      fc.property(anyPermissionPattern, anyPermission, (pattern, permission) => {
        expect(covers(pattern, permission)).toBe(matches(pattern, permission));
      }),
      { numRuns: 1_000 },
    );
  });

  test('of a pattern means covering everything that the pattern covers', () => {
    fc.assert(
      fc.property(anyPermissionPattern, anyPermissionPattern, anyPermission, (outer, inner, permission) => {
        fc.pre(covers(outer, inner) && matches(inner, permission));
        expect(matches(outer, permission)).toBe(true);
      }),
    );
  });

  test('refuses a pattern only if that covers something more', () => {
    fc.assert(
      fc.property(anyPermissionPattern, anyPermissionPattern, (outer, inner) => {
        fc.pre(!covers(outer, inner));
        // A word of its own under the inner pattern, and the pattern itself when it is concrete.
        const witness = inner.endsWith('*') ? `${inner.slice(0, -1)}zz-only-here` : inner;
        const witnesses = inner === '*' ? [witness, 'zz:only:here'] : [witness];
        expect(witnesses.every((permission) => matches(outer, permission))).toBe(false);
      }),
    );
  });

  test('is reflexive and transitive', () => {
    fc.assert(
      fc.property(anyPermissionPattern, anyPermissionPattern, anyPermissionPattern, (a, b, c) => {
        expect(covers(a, a)).toBe(true);
        if (covers(a, b) && covers(b, c)) expect(covers(a, c)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  test('needs one pattern: nothing is granted by default', () => {
    expect(grants([], 'a')).toBe(false);
    expect(grants(['a:*', 'b'], 'b')).toBe(true);
    expect(grants(['a:*', 'b'], 'c')).toBe(false);
  });
});

/** Well formed ones that meet often, and texts that are none. */
const anyText = fc.array(
  fc.oneof(
    anyPermissionPattern,
    fc.stringMatching(/^[ab](:[ab]){0,3}(:\*)?$/),
    fc.constantFrom('*', 'pantheon', 'pantheon:*', 'pantheon:a', 'pantheonx', ':', '::', ':*', '*:*', 'a:', 'a::b', ''),
  ),
  { maxLength: 12 },
);

describe('sets of patterns', () => {
  test('a set grants what its list grants, whatever is in it and whatever is requested', () => {
    fc.assert(
      fc.property(anyText, anyText, (held, wanted) => {
        const set = new PermissionSet(held);
        for (const one of wanted) {
          expect(set.grants(one)).toBe(grants(held, one));
          expect([...set.covering(one)].sort()).toEqual([...new Set(held)].filter((own) => covers(own, one)).sort());
        }
      }),
      { numRuns: 3_000 },
    );
  });

  test('comparing twice as many on both sides takes twice as long, and not four times', () => {
    // The longest there are, all alike but for the end: the worst to compare one by one.
    const start = `${'aaaa:'.repeat(PERMISSION_SEGMENTS_MAX - 1)}${'a'.repeat(80)}`;
    const many = (count: number, end: string) => Array.from({ length: count }, (_, n) => `${start}${end}${n}`);
    const costOf = (count: number): number => {
      const [held, wanted] = [many(count, 'h'), many(count, 'w')];
      const begun = process.cpuUsage();
      expect(intersect(held, wanted)).toEqual([]);
      const { user, system } = process.cpuUsage(begun);
      return user + system;
    };
    const least = (count: number): number => Math.min(...Array.from({ length: 5 }, () => costOf(count)));
    least(PERMISSIONS_MAX); // Compiled by now.
    expect(least(PERMISSIONS_MAX * 32)).toBeLessThan(8 * least(PERMISSIONS_MAX * 8) + 1_000);
  });
});

describe('narrowing', () => {
  test.each([
    [['a:*'], ['a:b'], ['a:b']],
    [['a:b'], ['a:*'], ['a:b']],
    [['a:b', 'a:c', 'd'], ['a:*'], ['a:b', 'a:c']],
    [['*'], ['a:*', 'pantheon:*'], ['a:*']],
    [['*', 'pantheon:keys:*'], ['pantheon:*'], ['pantheon:keys:*']],
    [['a'], ['b'], []],
    [['a:b'], ['a:b', 'a:*', '*'], ['a:b']],
    [[], ['*'], []],
    [['*'], [], []],
  ])('%j to %j leaves %j', (held, wanted, left) => {
    expect(intersect(held, wanted)).toEqual(left);
  });

  test('leaves exactly what both cover, and each once', () => {
    fc.assert(
      fc.property(patterns, patterns, anyPermission, (held, wanted, permission) => {
        const both = intersect(held, wanted);
        expect(grants(both, permission)).toBe(grants(held, permission) && grants(wanted, permission));
        expect(new Set(both).size).toBe(both.length);
      }),
      { numRuns: 1_000 },
    );
  });

  test('never gives more than either had, patterns included', () => {
    fc.assert(
      fc.property(patterns, patterns, (held, wanted) => {
        for (const pattern of intersect(held, wanted)) {
          expect(grants(held, pattern) && grants(wanted, pattern)).toBe(true);
        }
      }),
    );
  });

  test('gives what comparing each with each gives, in the same order', () => {
    /** The meaning, by the definition: every pair is looked at. */
    const byPairs = (held: readonly string[], wanted: readonly string[]): string[] => {
      const both = new Set<string>();
      for (const pattern of wanted) {
        if (held.some((own) => covers(own, pattern))) both.add(pattern);
        else for (const own of held) if (covers(pattern, own)) both.add(own);
      }
      return [...both];
    };
    fc.assert(
      fc.property(anyText, anyText, (held, wanted) => {
        expect(intersect(held, wanted)).toEqual(byPairs(held, wanted));
      }),
      { numRuns: 2_000 },
    );
  });

  test('accepts a pattern of the maximum size', () => {
    const deepest = Array.from({ length: PERMISSION_SEGMENTS_MAX }, () => 'a').join(':');
    expect(intersect(['a:*'], [deepest])).toEqual([deepest]);
  });
});
