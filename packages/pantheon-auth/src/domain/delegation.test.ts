import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import { assertAudiences, assertMayChange, assertMayHandOut, type ConfirmedCaller } from './delegation.ts';
import { PROCESS_ACTOR } from './event.ts';
import type { KeyRecord, KeySettings } from './key.ts';
import { isQuotaWithin, isRateLimitsWithin, type QuotaRule, type RateLimitRule } from './limits.ts';

const CLAIMED_IN_A_WEEK = { windowSeconds: 604_800, onMissed: 'extend', recipientJwk: null } as const;

const SETTINGS: KeySettings = {
  ...{ userId: 'u', name: 'n', description: null, environment: 'live', permissions: ['docs:read'], grantable: [] },
  ...{ notBefore: null, expiresAt: null, rateLimits: [], quota: null, ipAllowlist: [], rotation: null, jwt: null },
  metadata: null,
};
const JWT = { algorithm: 'ES256', audience: [], customClaims: {}, ttlSeconds: 300 } as const;
const RECORD: KeyRecord = {
  ...SETTINGS,
  ...{ id: 'OthersOthersOthe', tenantId: 'default', createdAt: 0, createdBy: null, state: { kind: 'active' } },
  ...{ tokensNotBefore: null, version: 1, versions: [], revision: 1, idTag: 1 },
};
const CREATE = ['pantheon:keys:create', 'pantheon:keys:update'];

/** A caller with this key, that may hand out `docs:*`. */
function caller(own: Partial<KeySettings> = {}, permissions: readonly string[] = CREATE): ConfirmedCaller {
  const settings = { ...SETTINGS, permissions, grantable: ['docs:*'], ...own };
  const { expiresAt, ipAllowlist, grantable } = settings;
  return {
    authority: {
      ...{ kind: 'key', via: 'api_key', version: 1, keyId: 'CallerCallerCall', tenantId: 'default' },
      ...{ permissions, grantable, expiresAt, ipAllowlist },
    } as ConfirmedCaller['authority'],
    auditContext: { actor: { ...PROCESS_ACTOR, userId: settings.userId }, requestId: null, reason: null },
    own: settings,
  };
}
const PROCESS: ConfirmedCaller = {
  authority: { kind: 'process' },
  auditContext: { actor: PROCESS_ACTOR, requestId: null, reason: null },
  own: null,
};
const NAMING = [...CREATE, 'pantheon:tokens:issue'];

/** What it is refused for; null: it is not. */
function refusedFor(attempt: () => void): string | null {
  try {
    attempt();
    return null;
  } catch (error) {
    if (!(error instanceof PantheonError)) throw error;
    expect(error.code).toMatch(/^not_(grantable|allowed)$/);
    return error.field;
  }
}
const handingOut = (by: ConfirmedCaller, settings: Partial<KeySettings>): string | null =>
  refusedFor(() => assertMayHandOut(by, { ...SETTINGS, ...settings }));
const changing = (by: ConfirmedCaller, before: Partial<KeySettings>, after: Partial<KeySettings>): string | null =>
  refusedFor(() => assertMayChange(by, { ...RECORD, ...before }, { ...SETTINGS, ...before, ...after }));

const rule = (limit: number, windowSeconds: number, name = 'a'): RateLimitRule => ({ name, limit, windowSeconds });

describe('a limited key creates no key that is less limited', () => {
  const LIMITED = { rateLimits: [rule(10, 60), rule(100, 3_600, 'b')] };

  test.each<[string, Partial<KeySettings>, Partial<KeySettings>, string | null]>([
    ['no limits, from one that has none', {}, {}, null],
    ['the same limits', LIMITED, LIMITED, null],
    ['stricter ones', LIMITED, { rateLimits: [rule(9, 61), rule(1, 3_600, 'c')] }, null],
    ['one that is as strict as both', LIMITED, { rateLimits: [rule(10, 3_600, 'x')] }, null],
    ['none', LIMITED, {}, 'rateLimits'],
    ['one of two', LIMITED, { rateLimits: [rule(10, 60)] }, 'rateLimits'],
    ['a larger number', LIMITED, { rateLimits: [rule(11, 60), rule(100, 3_600, 'b')] }, 'rateLimits'],
    ['a shorter window', LIMITED, { rateLimits: [rule(10, 59), rule(100, 3_600, 'b')] }, 'rateLimits'],
    ['the same quota', { quota: { limit: 5, period: 'day' } }, { quota: { limit: 5, period: 'day' } }, null],
    ['a longer period', { quota: { limit: 5, period: 'day' } }, { quota: { limit: 5, period: 'month' } }, null],
    ['no quota', { quota: { limit: 5, period: 'day' } }, {}, 'quota'],
    ['a larger quota', { quota: { limit: 5, period: 'day' } }, { quota: { limit: 6, period: 'month' } }, 'quota'],
    ['a shorter period', { quota: { limit: 5, period: 'month' } }, { quota: { limit: 5, period: 'day' } }, 'quota'],
    ['an end', { expiresAt: 10 }, { expiresAt: 10 }, null],
    ['no end', { expiresAt: 10 }, {}, 'expiresAt'],
    ['from anywhere', { ipAllowlist: ['10.0.0.0/8'] }, {}, 'ipAllowlist'],
    ['the live environment, from the test one', { environment: 'test' }, {}, 'environment'],
    ['the test environment, from the live one', {}, { environment: 'test' }, null],
  ])('%s', (_what, own, settings, field) => {
    expect(handingOut(caller(own), settings)).toBe(field);
    // The right to issue tokens lifts no bound.
    expect(handingOut(caller(own, NAMING), settings)).toBe(field);
    expect(handingOut(PROCESS, settings)).toBeNull();
  });

  const anyRules = fc.array(
    fc.record({
      name: fc.constant('a'),
      limit: fc.integer({ min: 1, max: 4 }),
      windowSeconds: fc.integer({ min: 1, max: 4 }),
    }),
    { maxLength: 3 },
  );
  /** The most that can be used within some seconds. */
  const most = (rules: readonly RateLimitRule[], seconds: number): number =>
    Math.min(
      Number.POSITIVE_INFINITY,
      ...rules.map(({ limit, windowSeconds }) => limit * Math.ceil(seconds / windowSeconds)),
    );

  test('nor one that can be used more often in any period', () => {
    fc.assert(
      fc.property(anyRules, anyRules, fc.integer({ min: 1, max: 20 }), (child, creator, seconds) => {
        fc.pre(isRateLimitsWithin(child, creator));
        expect(most(child, seconds)).toBeLessThanOrEqual(most(creator, seconds));
      }),
    );
  });

  test('nor does it over generations', () => {
    const anyQuota = fc.option(
      fc.record({
        limit: fc.integer({ min: 1, max: 3 }),
        period: fc.constantFrom<QuotaRule['period']>('day', 'month'),
      }),
    );
    fc.assert(
      fc.property(
        fc.tuple(anyRules, anyRules, anyRules),
        fc.tuple(anyQuota, anyQuota, anyQuota),
        ([a, b, c], [x, y, z]) => {
          if (isRateLimitsWithin(b, a) && isRateLimitsWithin(c, b)) expect(isRateLimitsWithin(c, a)).toBe(true);
          if (isQuotaWithin(y, x) && isQuotaWithin(z, y)) expect(isQuotaWithin(z, x)).toBe(true);
        },
      ),
    );
  });
});

describe('a key that may only create keys creates none for tokens in the name of others', () => {
  const CLAIMS = { jwt: { ...JWT, customClaims: { role: 'admin' } } };
  const TWO_CLAIMS = { jwt: { ...JWT, customClaims: { role: 'admin', read_only: true } } };

  test.each<[string, Partial<KeySettings>, Partial<KeySettings>, string | null]>([
    ['its own user', { userId: 'me' }, { userId: 'me' }, null],
    ['another user', { userId: 'me' }, { userId: 'boss' }, 'userId'],
    ['a claim', {}, CLAIMS, 'jwt.customClaims'],
    ['the claim that it has itself', CLAIMS, CLAIMS, null],
    ['that claim with another value', CLAIMS, { jwt: { ...JWT, customClaims: { role: 'root' } } }, 'jwt.customClaims'],
    ['that claim and another', CLAIMS, { jwt: { ...JWT, customClaims: { role: 'admin', x: 1 } } }, 'jwt.customClaims'],
    ['settings of tokens without claims', {}, { jwt: JWT }, null],
    ['settings of tokens without the claim that it has itself', CLAIMS, { jwt: JWT }, 'jwt.customClaims'],
    ['no settings of tokens, and so not that claim', CLAIMS, {}, 'jwt.customClaims'],
    ['one of its two claims', TWO_CLAIMS, CLAIMS, 'jwt.customClaims'],
    ['both of its claims', TWO_CLAIMS, TWO_CLAIMS, null],
  ])('%s', (_what, own, settings, field) => {
    expect(handingOut(caller(own), settings)).toBe(field);
    for (const by of [caller(own, NAMING), caller(own, ['pantheon:*']), PROCESS])
      expect(handingOut(by, settings)).toBeNull();
  });

  test('the order of members in a claim makes no difference', () => {
    const own = { jwt: { ...JWT, customClaims: { org: { a: 1, b: 2 } } } };
    expect(handingOut(caller(own), { jwt: { ...JWT, customClaims: { org: { b: 2, a: 1 } } } })).toBeNull();
  });

  test('the error says what would allow it', () => {
    const attempt = (): void => assertMayHandOut(caller(), { ...SETTINGS, userId: 'boss' });
    expect(attempt).toThrow(expect.objectContaining({ detail: expect.stringContaining('pantheon:tokens:issue') }));
  });
});

describe('changing a key', () => {
  const BOUND = { rateLimits: [rule(10, 60)], quota: { limit: 5, period: 'day' } as const, expiresAt: 1_000 };
  const LOOSE = { rateLimits: [rule(100, 60)], quota: { limit: 50, period: 'day' } as const, expiresAt: 5_000 };

  test.each<[string, Partial<KeySettings>, Partial<KeySettings>]>([
    ['a name, a description and metadata', LOOSE, { name: 'x', description: 'y', metadata: { a: 1 } }],
    ['fewer permissions', LOOSE, { permissions: [] }],
    ['a lower limit', LOOSE, { rateLimits: [rule(99, 60)] }],
    ['another limit beside it', LOOSE, { rateLimits: [rule(100, 60), rule(1_000, 3_600, 'b')] }],
    ['a lower quota', LOOSE, { quota: { limit: 49, period: 'day' } }],
    ['a longer period', LOOSE, { quota: { limit: 50, period: 'month' } }],
    ['an earlier end', LOOSE, { expiresAt: 4_999 }],
    ['a later beginning', { ...LOOSE, notBefore: 1 }, { notBefore: 2 }],
    ['an address list', LOOSE, { ipAllowlist: ['10.0.0.0/8'] }],
    ['a narrower address list', { ...LOOSE, ipAllowlist: ['10.0.0.0/8'] }, { ipAllowlist: ['10.1.0.0/16'] }],
    ['a shorter life of its tokens', { ...LOOSE, jwt: JWT }, { jwt: { ...JWT, ttlSeconds: 60 } }],
  ])('is not limited if it only removes access: %s', (_what, before, after) => {
    expect(changing(caller(BOUND), before, after)).toBeNull();
  });

  test.each<[string, Partial<KeySettings>, Partial<KeySettings>]>([
    ['a permission', LOOSE, { permissions: ['docs:read', 'docs:write'] }],
    ['the right to hand out', LOOSE, { grantable: ['docs:read'] }],
    ['no limit', LOOSE, { rateLimits: [] }],
    ['a higher limit', LOOSE, { rateLimits: [rule(101, 60)] }],
    ['a shorter window', LOOSE, { rateLimits: [rule(100, 59)] }],
    ['no quota', LOOSE, { quota: null }],
    ['a higher quota', LOOSE, { quota: { limit: 51, period: 'day' } }],
    ['a shorter period', { ...LOOSE, quota: { limit: 50, period: 'month' } }, { quota: { limit: 50, period: 'day' } }],
    ['a later end', LOOSE, { expiresAt: 5_001 }],
    ['no end', LOOSE, { expiresAt: null }],
    ['an earlier beginning', { ...LOOSE, notBefore: 2 }, { notBefore: 1 }],
    ['no beginning', { ...LOOSE, notBefore: 2 }, { notBefore: null }],
    ['another address list', { ...LOOSE, ipAllowlist: ['10.0.0.0/8'] }, { ipAllowlist: ['11.0.0.0/8'] }],
    ['no address list', { ...LOOSE, ipAllowlist: ['10.0.0.0/8'] }, { ipAllowlist: [] }],
    ['a longer life of its tokens', { ...LOOSE, jwt: { ...JWT, ttlSeconds: 60 } }, { jwt: null }],
    ['another algorithm', { ...LOOSE, jwt: JWT }, { jwt: { ...JWT, algorithm: 'HS256' } }],
    ['a rotation', LOOSE, { rotation: { everySeconds: null, overlapSeconds: 60, ...CLAIMED_IN_A_WEEK } }],
    [
      'no rotation',
      { ...LOOSE, rotation: { everySeconds: 3_600, overlapSeconds: 60, ...CLAIMED_IN_A_WEEK } },
      { rotation: null },
    ],
  ])('is limited like creating a key if it adds access: %s', (_what, before, after) => {
    expect(changing(caller(BOUND), before, after)).not.toBeNull();
    expect(changing(caller(), before, after)).toBeNull();
  });

  test('is allowed to add access if the whole key lies within the limits of the caller', () => {
    expect(changing(caller(BOUND), BOUND, { permissions: ['docs:*'] })).toBeNull();
    expect(
      changing(caller(BOUND), { ...BOUND, quota: { limit: 1, period: 'day' } }, { quota: BOUND.quota }),
    ).toBeNull();
    // Not only what is given: what is there already would be given more.
    expect(changing(caller(BOUND), { ...BOUND, rateLimits: [] }, { permissions: ['docs:*'] })).toBe('rateLimits');
  });

  const CLAIMS = { ...JWT, customClaims: { role: 'reader', org: 'a' } };
  test.each<[string, Partial<KeySettings>, string]>([
    ['its user', { userId: 'boss' }, 'userId'],
    ['a claim', { jwt: { ...CLAIMS, customClaims: { role: 'admin', org: 'a' } } }, 'jwt.customClaims'],
    ['another claim', { jwt: { ...CLAIMS, customClaims: { ...CLAIMS.customClaims, x: 1 } } }, 'jwt.customClaims'],
    [
      'a claim taken away, which may hold back',
      { jwt: { ...CLAIMS, customClaims: { role: 'reader' } } },
      'jwt.customClaims',
    ],
    ['all claims taken away', { jwt: null }, 'jwt.customClaims'],
  ])('cannot change whose it is: %s', (_what, after, field) => {
    expect(changing(caller(), { jwt: CLAIMS }, after)).toBe(field);
    for (const by of [caller({}, NAMING), PROCESS]) expect(changing(by, { jwt: CLAIMS }, after)).toBeNull();
  });

  test('keeps what others have set: a key of another user, with claims, can be renamed and its tokens shortened', () => {
    const before = { userId: 'boss', jwt: CLAIMS };
    expect(changing(caller(), before, { name: 'x' })).toBeNull();
    expect(changing(caller(), before, { jwt: { ...CLAIMS, ttlSeconds: 60 } })).toBeNull();
    expect(changing(caller(), before, { userId: 'u' })).toBeNull();
  });
});

describe('a key whose claims restrict it gives nothing to a key without them', () => {
  const HELD = { jwt: { ...JWT, customClaims: { read_only: true } } };
  const OTHER = { jwt: { ...JWT, customClaims: { read_only: false } } };

  test.each<[string, Partial<KeySettings>, Partial<KeySettings>]>([
    ['a permission', {}, { permissions: ['docs:read', 'docs:write'] }],
    ['a permission, where the claim has another value', OTHER, { permissions: ['docs:read', 'docs:write'] }],
    ['another audience', { jwt: JWT }, { jwt: { ...JWT, audience: ['https://orders.example'] } }],
    ['a longer life of its tokens', { jwt: { ...JWT, ttlSeconds: 60 } }, { jwt: null }],
    ['a later end', { expiresAt: 1_000 }, { expiresAt: 2_000 }],
    ['its own user', { userId: 'boss' }, { userId: 'u' }],
  ])('%s', (_what, before, after) => {
    expect(changing(caller(HELD), before, after)).toBe('jwt.customClaims');
    expect(changing(caller(), before, after)).toBeNull();
    for (const by of [caller(HELD, NAMING), PROCESS]) expect(changing(by, before, after)).toBeNull();
  });

  test('removing access is not limited, and the claims of the caller may be added', () => {
    expect(changing(caller(HELD), {}, { permissions: [] })).toBeNull();
    expect(changing(caller(HELD), { jwt: JWT }, { jwt: { ...JWT, ttlSeconds: 60 } })).toBeNull();
    expect(changing(caller(HELD), {}, HELD)).toBeNull();
    expect(changing(caller(HELD), OTHER, HELD)).toBeNull();
    expect(changing(caller(HELD), HELD, { permissions: ['docs:*'] })).toBeNull();
  });
});

describe('audiences', () => {
  const OWN = ['https://auth.example'];
  const tenant = (audiences: readonly string[] | null) => ({ id: 'acme', audiences });
  const asking = (audience: readonly string[], of: readonly string[] | null, before: readonly string[] = []) =>
    refusedFor(() =>
      assertAudiences(
        caller({}, ['pantheon:*']),
        tenant(of),
        OWN,
        { jwt: { ...JWT, audience } },
        { jwt: { ...JWT, audience: before } },
      ),
    );

  test('may be those of the service and, exactly, those of the tenant', () => {
    expect(asking([], null)).toBeNull();
    expect(asking(OWN, null)).toBeNull();
    expect(asking(['https://orders.example'], null)).toBe('jwt.audience[0]');
    expect(asking(['https://orders.example'], [])).toBe('jwt.audience[0]');
    expect(asking([...OWN, 'https://orders.example'], ['https://orders.example'])).toBeNull();
    for (const close of ['https://orders.example/', 'https://ORDERS.example', 'https://orders.example:443', '*'])
      expect(asking([...OWN, close], ['https://orders.example'])).toBe('jwt.audience[1]');
  });

  test('that a key has already are kept', () => {
    expect(asking(['https://old.example'], null, ['https://old.example'])).toBeNull();
    expect(asking(['https://old.example', 'https://new.example'], null, ['https://old.example'])).toBe(
      'jwt.audience[1]',
    );
  });

  test('may be any if the process sets them, and a key without token settings has none', () => {
    const any = { jwt: { ...JWT, audience: ['https://any.example'] } };
    expect(refusedFor(() => assertAudiences(PROCESS, tenant(null), OWN, any))).toBeNull();
    expect(refusedFor(() => assertAudiences(caller(), tenant(null), OWN, { jwt: null }))).toBeNull();
  });
});
