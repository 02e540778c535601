import fc, { type Arbitrary } from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../foundation/codes.ts';
import { PantheonError } from '../foundation/errors.ts';
import { anyInstant, anyPermission, anyPermissionPattern } from '../testing/arbitraries.ts';
import { AddressRanges } from './address.ts';
import { PROCESS_ACTOR } from './event.ts';
import {
  ACTIONS,
  type Action,
  type Authority,
  administers,
  assertMay,
  assertMayGrant,
  assertWithinCreator,
  type Caller,
} from './key-policy.ts';
import { grants, isPermission, isReserved } from './permissions.ts';
import { SYSTEM_TENANT } from './tenant.ts';

type KeyAuthority = Extract<Authority, { kind: 'key' }>;

const auditContext = { actor: PROCESS_ACTOR, requestId: null, reason: null };
const PROCESS: Caller = { authority: { kind: 'process' }, auditContext };

function key(changes: Partial<KeyAuthority> = {}): Caller {
  const nothing = { permissions: [], grantable: [], expiresAt: null, ipAllowlist: [] };
  return {
    authority: {
      kind: 'key',
      via: 'api_key',
      secretMadeAt: 0,
      version: 1,
      keyId: '0123456789abcdef',
      tenantId: 'default',
      ...nothing,
      ...changes,
    } as KeyAuthority,
    auditContext,
  };
}
const ROOT = key({ tenantId: SYSTEM_TENANT, permissions: ['pantheon:*'], grantable: ['*'] });

/** The code and field of a refusal; null when it is allowed. */
function refusal(attempt: () => void): { code: ErrorCode | string; field: string | null } | null {
  try {
    attempt();
    return null;
  } catch (error) {
    if (!(error instanceof PantheonError)) throw error;
    return { code: error.code, field: error.field };
  }
}

describe('every action', () => {
  const actions = Object.entries(ACTIONS) as [Action, string][];

  test.each(actions)('%s needs %s: that alone, or a pattern over it, is enough', (action, permission) => {
    const own = permission.split(':').slice(0, -1).join(':');
    for (const held of [permission, `${own}:*`, 'pantheon:*']) {
      expect(refusal(() => assertMay(key({ permissions: [held] }), action, 'default'))).toBeNull();
    }
    const others = Object.values(ACTIONS).filter((other) => other !== permission);
    for (const permissions of [[], ['*'], ['pantheon'], others]) {
      const attempt = (): void => assertMay(key({ permissions, grantable: ['*'] }), action, 'default');
      expect(refusal(attempt)).toMatchObject({ code: 'insufficient_permissions' });
    }
  });

  test.each(actions)(
    '%s in a tenant other than that of the caller is answered as if it did not exist (I10)',
    (action) => {
      for (const permissions of [['pantheon:*'], []]) {
        const attempt = (): void => assertMay(key({ permissions, tenantId: 'acme' }), action, 'default');
        expect(refusal(attempt)).toEqual({ code: 'not_found', field: null });
      }
      expect(refusal(() => assertMay(key({ permissions: ['pantheon:*'] }), action, SYSTEM_TENANT))?.code).toBe(
        'not_found',
      );
    },
  );

  test.each(actions)('%s is allowed in every tenant for the root key and the process', (action) => {
    for (const caller of [ROOT, PROCESS]) expect(refusal(() => assertMay(caller, action, 'acme'))).toBeNull();
  });

  test('is managing this service', () => {
    for (const permission of Object.values(ACTIONS)) {
      expect(isPermission(permission) && isReserved(permission)).toBe(true);
    }
  });
});

describe('granting', () => {
  test.each<[string, Partial<KeyAuthority>, string[], string[], string | null]>([
    ['what is grantable', { grantable: ['a:*'] }, ['a:b', 'a:*'], ['a:c'], null],
    ['nothing', {}, [], [], null],
    ['what the caller may do itself, and may not hand out', { permissions: ['a:b'] }, ['a:b'], [], 'permissions[0]'],
    ['more than is grantable', { grantable: ['a:*'] }, ['a:b', '*'], [], 'permissions[1]'],
    ['a managing permission that it has', { permissions: ['pantheon:keys:*'] }, ['pantheon:keys:read'], [], null],
    ['one that it has not', { permissions: ['pantheon:keys:*'] }, ['pantheon:*'], [], 'permissions[0]'],
    ['managing, by a grantable star', { grantable: ['*'] }, ['pantheon:keys:read'], [], 'permissions[0]'],
    [
      'managing, by a grantable of its name',
      { grantable: ['pantheon:*'] },
      ['pantheon:keys:read'],
      [],
      'permissions[0]',
    ],
    ['`pantheon` itself, by a grantable star', { grantable: ['*'] }, ['pantheon'], [], 'permissions[0]'],
    ['the right to hand out', { grantable: ['a:*'] }, [], ['a:b:*'], null],
    ['the right to hand out more', { grantable: ['a:*'] }, [], ['a:b', '*'], 'grantable[1]'],
    ['the right to hand out what it may do', { permissions: ['a'] }, [], ['a'], 'grantable[0]'],
    [
      'the right to hand out managing',
      { permissions: ['pantheon:*'], grantable: ['*'] },
      [],
      ['pantheon:*'],
      'grantable[0]',
    ],
  ])('%s', (_what, authority, permissions, grantable, field) => {
    const attempt = (): void => assertMayGrant(key(authority), { permissions, grantable });
    expect(refusal(attempt)).toEqual(field === null ? null : { code: 'not_grantable', field });
  });

  test('the root key may grant everything, and so may the process', () => {
    const everything = { permissions: ['pantheon:*', '*', 'a:b'], grantable: ['*', 'a:*'] };
    for (const caller of [ROOT, PROCESS]) expect(refusal(() => assertMayGrant(caller, everything))).toBeNull();
  });

  const patterns = (size: number): Arbitrary<string[]> => fc.array(anyPermissionPattern, { maxLength: size });
  const anyAuthority = fc.record({ permissions: patterns(4), grantable: patterns(4) });
  const anyHoldings = fc.record({ permissions: patterns(2), grantable: patterns(2) });
  /** What a caller can ever bring about: by itself, or by a key that it makes. */
  const reach = (of: { permissions: readonly string[]; grantable: readonly string[] }, permission: string): boolean =>
    grants(isReserved(permission) ? of.permissions : of.grantable, permission);

  test('never exceeds what the caller may grant, permission by permission', () => {
    fc.assert(
      fc.property(anyAuthority, anyHoldings, anyPermission, (own, child, permission) => {
        fc.pre(refusal(() => assertMayGrant(key(own), child)) === null);
        if (grants(child.permissions, permission)) expect(reach(own, permission)).toBe(true);
        if (grants(child.grantable, permission)) expect(grants(own.grantable, permission)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  test('is refused only for a permission that the caller may not grant', () => {
    fc.assert(
      fc.property(anyAuthority, fc.array(anyPermission, { maxLength: 3 }), (own, permissions) => {
        const allowed = refusal(() => assertMayGrant(key(own), { permissions, grantable: [] })) === null;
        expect(allowed).toBe(permissions.every((permission) => reach(own, permission)));
      }),
    );
  });

  test('never extends permissions over generations', () => {
    fc.assert(
      fc.property(anyAuthority, anyHoldings, anyHoldings, anyPermission, (own, child, grandchild, permission) => {
        fc.pre(refusal(() => assertMayGrant(key(own), child)) === null);
        fc.pre(refusal(() => assertMayGrant(key(child), grandchild)) === null);
        if (grants(grandchild.permissions, permission)) expect(reach(own, permission)).toBe(true);
        expect(refusal(() => assertMayGrant(key(own), grandchild))).toBeNull();
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('a child within its creator', () => {
  test.each<[string, Partial<KeyAuthority>, number | null, string[], string | null]>([
    ['nothing limits the creator', {}, null, [], null],
    ['ends with it', { expiresAt: 10 }, 10, [], null],
    ['ends before it', { expiresAt: 10 }, 9, [], null],
    ['ends after it', { expiresAt: 10 }, 11, [], 'expiresAt'],
    ['never ends', { expiresAt: 10 }, null, [], 'expiresAt'],
    ['the same range', { ipAllowlist: ['10.0.0.0/8'] }, null, ['10.0.0.0/8'], null],
    ['a range inside', { ipAllowlist: ['10.0.0.0/8'] }, null, ['10.1.0.0/16'], null],
    [
      'one range inside and one outside',
      { ipAllowlist: ['10.0.0.0/8'] },
      null,
      ['10.1.0.0/16', '11.0.0.0/8'],
      'ipAllowlist',
    ],
    ['a wider range', { ipAllowlist: ['10.0.0.0/8'] }, null, ['0.0.0.0/0'], 'ipAllowlist'],
    ['from anywhere', { ipAllowlist: ['10.0.0.0/8'] }, null, [], 'ipAllowlist'],
  ])('%s', (_what, authority, expiresAt, ipAllowlist, field) => {
    const attempt = (): void => assertWithinCreator(key(authority), { expiresAt, ipAllowlist });
    expect(refusal(attempt)).toEqual(field === null ? null : { code: 'not_grantable', field });
  });

  test('is not limited if the process creates it', () => {
    expect(refusal(() => assertWithinCreator(PROCESS, { expiresAt: null, ipAllowlist: [] }))).toBeNull();
  });

  test('is usable at no time and from no address where its creator is not', () => {
    const ranges = fc.subarray([
      '10.0.0.0/8',
      '10.1.0.0/16',
      '10.1.2.0/24',
      '192.0.2.0/24',
      '2001:db8::/32',
      '2001:db8:1::/48',
    ]);
    const life = fc.record({ expiresAt: fc.option(anyInstant), ipAllowlist: ranges });
    const address = fc.constantFrom(
      '10.1.2.3',
      '10.1.9.9',
      '10.9.9.9',
      '192.0.2.7',
      '2001:db8::1',
      '2001:db8:1::1',
      '198.51.100.1',
    );
    const isOpen = (of: { expiresAt: number | null; ipAllowlist: string[] }, now: number, from: string): boolean =>
      (of.expiresAt === null || now < of.expiresAt) &&
      (of.ipAllowlist.length === 0 || AddressRanges.of(of.ipAllowlist).contains(from));
    fc.assert(
      fc.property(life, life, anyInstant, address, (creator, child, now, from) => {
        fc.pre(refusal(() => assertWithinCreator(key(creator), child)) === null);
        if (isOpen(child, now, from)) expect(isOpen(creator, now, from)).toBe(true);
      }),
    );
  });
});

test.each([
  [['pantheon:*'], true],
  [['a', 'pantheon:*'], true],
  [['*'], false],
  [['pantheon'], false],
  [['pantheon:keys:*'], false],
  [[], false],
])('%j makes an administrator: %s', (permissions, expected) => {
  expect(administers(permissions)).toBe(expected);
});
