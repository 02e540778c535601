import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { anyEnvironment, anyInstant, anyKeyRecord, anyPermission, anyTenant } from '../testing/arbitraries.ts';
import { AddressRanges } from './address.ts';
import type { KeyRecord, KeyVersion } from './key.ts';
import { grants } from './permissions.ts';
import { type AccessRequest, type Denial, decide, decidePermissions, type KeyFacts } from './verification.ts';

const NOW = Date.UTC(2030, 0, 1);
const CURRENT: KeyVersion = { version: 1, createdAt: 0, acceptedUntil: null };
const RECORD: KeyRecord = {
  ...{ id: '0123456789abcdef', tenantId: 'default', createdAt: 0, createdBy: null, state: { kind: 'active' } },
  ...{ tokensNotBefore: null, version: 1, versions: [CURRENT], revision: 1, idTag: 1 },
  ...{ userId: 'u', name: 'n', description: null, environment: 'live', permissions: ['reports:*'], grantable: [] },
  ...{ notBefore: null, expiresAt: null, rateLimits: [], quota: null, ipAllowlist: [], rotation: null },
  ...{ jwt: null, metadata: null },
};
const FACTS: KeyFacts = {
  record: RECORD,
  tenant: { id: 'default', name: 'default', state: 'active', audiences: null, createdAt: 0, revision: 1 },
  addresses: null,
};
const ACCESS: AccessRequest = {
  tenantId: 'default',
  environment: 'live',
  address: '192.0.2.1',
  permissions: ['reports:read'],
};

interface Case {
  readonly facts: KeyFacts;
  readonly version: KeyVersion;
  readonly access: AccessRequest;
}
const VALID: Case = { facts: FACTS, version: CURRENT, access: ACCESS };
const record =
  (changes: Partial<KeyRecord>) =>
  (one: Case): Case => ({
    ...one,
    facts: { ...one.facts, record: { ...one.facts.record, ...changes } },
  });
const facts =
  (changes: Partial<KeyFacts>) =>
  (one: Case): Case => ({ ...one, facts: { ...one.facts, ...changes } });
const access =
  (changes: Partial<AccessRequest>) =>
  (one: Case): Case => ({ ...one, access: { ...one.access, ...changes } });
const verdict = (one: Case): ReturnType<typeof decide> => decide(one.facts, one.version, one.access, NOW);
const outside = { addresses: AddressRanges.of(['10.0.0.0/8']) };

/** Every reason to refuse, the first to be told first. */
const REASONS: readonly (readonly [string, (one: Case) => Case, object])[] = [
  ['a key of another tenant', access({ tenantId: 'acme' }), { code: 'unknown' }],
  ['a deleted tenant', facts({ tenant: { ...FACTS.tenant, state: 'deleted' } }), { code: 'unknown' }],
  ['a revoked key', record({ state: { kind: 'revoked', at: 0, reason: null } }), { code: 'revoked' }],
  ['an expired key', record({ expiresAt: NOW }), { code: 'expired' }],
  ['an ended version', (one) => ({ ...one, version: { ...CURRENT, acceptedUntil: NOW } }), { code: 'version_retired' }],
  ['a suspended key', record({ state: { kind: 'suspended', at: 0, reason: null } }), { code: 'suspended' }],
  ['a key of the future', record({ notBefore: NOW + 1 }), { code: 'not_yet_active' }],
  ['a key of another environment', record({ environment: 'test' }), { code: 'environment_mismatch' }],
  ['another address', facts(outside), { code: 'ip_not_allowed' }],
  [
    'a missing permission',
    access({ permissions: ['reports:read', 'reports', 'users:read'] }),
    { code: 'insufficient_permissions', missing: 'reports' },
  ],
];

describe('the order of denials is part of the contract', () => {
  test('a key with no reason to be denied is valid', () => {
    expect(verdict(VALID)).toBeNull();
  });

  test.each(REASONS.map((reason, index) => [reason[0], index] as const))(
    '%s is checked before all that follow',
    (_, index) => {
      const worst = REASONS.slice(index).reduceRight((one, [, spoil]) => spoil(one), VALID);
      expect(verdict(worst)).toEqual(REASONS[index]?.[2]);
    },
  );

  test.each(REASONS)('%s alone is a reason for a denial', (_what, spoil, denial) => {
    expect(verdict(spoil(VALID))).toEqual(denial);
  });
});

describe('times are compared to the millisecond', () => {
  test.each([
    ['the last millisecond before expiry', record({ expiresAt: NOW + 1 }), null],
    ['the first of activity', record({ notBefore: NOW }), null],
    [
      'the last of an overlap',
      (one: Case): Case => ({ ...one, version: { ...CURRENT, acceptedUntil: NOW + 1 } }),
      null,
    ],
    [
      'an overlap that is over',
      (one: Case): Case => ({ ...one, version: { ...CURRENT, acceptedUntil: NOW - 1 } }),
      'version_retired',
    ],
  ])('%s', (_what, change, code) => {
    expect(verdict(change(VALID))?.code ?? null).toBe(code);
  });
});

describe('requirements of the request', () => {
  test.each([
    ['any tenant', access({ tenantId: null }), null],
    ['any environment', access({ environment: null }), null],
    ['nothing', access({ permissions: [] }), null],
    [
      'nothing, of a key that holds nothing',
      (one: Case): Case => access({ permissions: [] })(record({ permissions: [] })(one)),
      null,
    ],
    ['something, of a key that holds nothing', record({ permissions: [] }), 'insufficient_permissions'],
    ['an address in the list', (one: Case): Case => access({ address: '10.1.2.3' })(facts(outside)(one)), null],
    [
      'the same address as IPv6',
      (one: Case): Case => access({ address: '::ffff:10.1.2.3' })(facts(outside)(one)),
      null,
    ],
    [
      'no address, of a bound key',
      (one: Case): Case => access({ address: null })(facts(outside)(one)),
      'ip_not_allowed',
    ],
    ['no address, of a free key', access({ address: null }), null],
    ['something, in a suspended tenant', facts({ tenant: { ...FACTS.tenant, state: 'suspended' } }), 'suspended'],
  ])('%s', (_what, change, code) => {
    expect(verdict(change(VALID))?.code ?? null).toBe(code);
  });

  test('a denial names the first missing permission', () => {
    expect(decidePermissions(['a'], ['a', 'b', 'c'])).toEqual({ code: 'insufficient_permissions', missing: 'b' });
    expect(decidePermissions([], [])).toBeNull();
  });
});

test('the compiler checks the data of a denial against its code', () => {
  const denials: readonly Denial[] = [
    { code: 'insufficient_permissions', missing: 'docs:read' },
    { code: 'rate_limited', violated: ['burst'] },
    { code: 'revoked' },
    // @ts-expect-error Which permission is missing is not said.
    { code: 'insufficient_permissions' },
    // @ts-expect-error Which limit is in the way is not said.
    { code: 'quota_exceeded' },
    // @ts-expect-error A revoked key never learns which permissions it used to have.
    { code: 'revoked', missing: 'docs:read' },
    // @ts-expect-error A limit has nothing to do with permissions.
    { code: 'rate_limited', violated: ['burst'], missing: 'docs:read' },
  ];
  const missing = (denial: Denial): string | null =>
    denial.code === 'insufficient_permissions' ? denial.missing : null;
  expect(denials.map(missing)).toEqual(['docs:read', null, null, undefined, null, null, null]);
  expectTypeOf<Extract<Denial, { readonly violated: readonly string[] }>['code']>().toEqualTypeOf<
    'rate_limited' | 'quota_exceeded'
  >();
});

test('a key that is accepted has no reason to be denied', () => {
  const anyDemand = fc.record({
    tenantId: fc.constantFrom(null, 'default', 'acme'),
    environment: fc.option(anyEnvironment),
    address: fc.constantFrom(null, '10.1.2.3', '192.0.2.7', '198.51.100.1', '2001:db8::1'),
    permissions: fc.array(anyPermission, { maxLength: 2 }),
  });
  fc.assert(
    fc.property(anyKeyRecord, anyTenant, anyDemand, anyInstant, fc.nat(3), (key, tenant, wanted, now, pick) => {
      const version = key.versions[pick % key.versions.length] ?? CURRENT;
      const addresses = key.ipAllowlist.length === 0 ? null : AddressRanges.of(key.ipAllowlist);
      const reasons = [
        wanted.tenantId !== null && wanted.tenantId !== key.tenantId,
        tenant.state !== 'active',
        key.state.kind !== 'active',
        key.expiresAt !== null && key.expiresAt <= now,
        key.notBefore !== null && key.notBefore > now,
        version.acceptedUntil !== null && version.acceptedUntil <= now,
        wanted.environment !== null && wanted.environment !== key.environment,
        addresses !== null && (wanted.address === null || !addresses.contains(wanted.address)),
        wanted.permissions.some((permission) => !grants(key.permissions, permission)),
      ];
      expect(decide({ record: key, tenant, addresses }, version, wanted, now) === null).toBe(!reasons.includes(true));
    }),
    { numRuns: 500 },
  );
});
