import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KeySettings } from '../domain/key.ts';
import { settingsToWire } from '../domain/key-wire.ts';
import { DAY_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { anyKeySettings } from '../testing/arbitraries.ts';
import { METADATA_BYTES_MAX } from './key-input.ts';
import { KEY_INPUT_SCHEMAS, mergePatch, parseUpdateInput, type UpdateKeyInput } from './key-patch.ts';

const CLAIMED_IN_A_WEEK = { windowSeconds: 604_800, onMissed: 'extend', recipientJwk: null } as const;

const NOW = Date.UTC(2030, 0, 1);
const DEFAULTS: KeySettings = {
  ...{ userId: 'u', name: 'n', description: null, environment: 'live', permissions: [], grantable: [] },
  ...{ notBefore: null, expiresAt: null, rateLimits: [], quota: null, ipAllowlist: [], rotation: null, jwt: null },
  metadata: null,
};

function refusal(parse: () => unknown): PantheonError | null {
  try {
    parse();
    return null;
  } catch (error) {
    if (!(error instanceof PantheonError)) throw error;
    return error;
  }
}

describe('an update', () => {
  const current: KeySettings = {
    ...DEFAULTS,
    description: 'd',
    expiresAt: NOW + DAY_MS,
    permissions: ['a'],
    metadata: { a: 1 },
  };
  const update = (input: unknown, now = NOW): KeySettings => parseUpdateInput(input, current, now);

  test('leaves settings unchanged that it does not name', () => {
    expect(update({})).toEqual(current);
    expect(update({ name: 'new' })).toEqual({ ...current, name: 'new' });
  });

  test('removes a setting with null', () => {
    expect(update({ description: null, expiresAt: null, metadata: null })).toEqual({
      ...current,
      ...{ description: null, expiresAt: null, metadata: null },
    });
  });

  test('changes the expiry', () => {
    expect(update({ expiresIn: '1h' }).expiresAt).toBe(NOW + 3_600_000);
  });

  test('of an expired key may leave it expired, but no update may set an expiry in the past', () => {
    expect(update({ name: 'late' }, NOW + 2 * DAY_MS)).toEqual({ ...current, name: 'late' });
    expect(update({ expiresAt: new Date(NOW + DAY_MS) }, NOW + 2 * DAY_MS)).toEqual(current);
    const refused = refusal(() => update({ expiresAt: new Date(NOW + 1) }, NOW + 2));
    expect(refused).toMatchObject({ code: 'invalid_request', field: 'expiresAt' });
  });

  test.each([
    ['environment', { environment: 'test' }],
    ['name', { name: null }],
    ['userId', { userId: null }],
    ['userId', { userId: '' }],
    ['expiresIn', { expiresIn: '1d', expiresAt: null }],
    ['notBefore', { notBefore: new Date(NOW + DAY_MS) }],
    ['tenantId', { tenantId: 'system' }],
  ])('%s is refused in %j', (field, input) => {
    expect(refusal(() => update(input))).toMatchObject({ code: 'invalid_request', field });
  });
});

describe('the members of a setting are merged as RFC 7396 says', () => {
  const jwt: NonNullable<KeySettings['jwt']> = {
    ...{ algorithm: 'Ed25519' as const, audience: ['https://a.example', 'https://b.example'], ttlSeconds: 60 },
    customClaims: { plan: 'pro', limits: { seats: 3, rooms: 1 } },
  };
  const current: KeySettings = {
    ...DEFAULTS,
    jwt,
    quota: { limit: 100, period: 'day' },
    rotation: { everySeconds: 2_592_000, overlapSeconds: 3_600, ...CLAIMED_IN_A_WEEK },
    metadata: { team: 'a', tags: ['x', 'y'], deep: { kept: 1, gone: 2 } },
  };
  const DEFAULT_JWT = { algorithm: 'ES256', audience: [], customClaims: {}, ttlSeconds: 300 } as const;

  test.each<[string, UpdateKeyInput, Partial<KeySettings>]>([
    ['a lifetime leaves the rest', { jwt: { ttl: '5m' } }, { jwt: { ...jwt, ttlSeconds: 300 } }],
    ['nothing changes nothing', { jwt: {}, quota: {}, rotation: {}, metadata: {} }, {}],
    ['what is left out changes nothing', { jwt: { ttl: undefined }, rotation: { every: undefined } }, {}],
    ['an algorithm', { jwt: { algorithm: 'RS256' } }, { jwt: { ...jwt, algorithm: 'RS256' } }],
    ['a list takes the place', { jwt: { audience: ['c'] } }, { jwt: { ...jwt, audience: ['c'] } }],
    ['a list is emptied', { jwt: { audience: null } }, { jwt: { ...jwt, audience: [] } }],
    [
      'a claim is set and another is taken away, at any depth',
      { jwt: { customClaims: { plan: null, role: 'r', limits: { seats: null, beds: 2 } } } },
      { jwt: { ...jwt, customClaims: { role: 'r', limits: { rooms: 1, beds: 2 } } } },
    ],
    ['all claims', { jwt: { customClaims: null } }, { jwt: { ...jwt, customClaims: {} } }],
    [
      'null is the default again',
      { jwt: { algorithm: null, ttl: null } },
      { jwt: { ...DEFAULT_JWT, ...{ audience: jwt.audience, customClaims: jwt.customClaims } } },
    ],
    [
      'all of it',
      { jwt: null, quota: null, rotation: null, metadata: null },
      { jwt: null, quota: null, rotation: null, metadata: null },
    ],
    ['a number of the quota', { quota: { limit: 5 } }, { quota: { limit: 5, period: 'day' } }],
    ['its period', { quota: { period: 'month' } }, { quota: { limit: 100, period: 'month' } }],
    [
      'an overlap',
      { rotation: { overlap: '2h' } },
      { rotation: { everySeconds: 2_592_000, overlapSeconds: 7_200, ...CLAIMED_IN_A_WEEK } },
    ],
    [
      'by hand from now on',
      { rotation: { every: null } },
      { rotation: { everySeconds: null, overlapSeconds: 3_600, ...CLAIMED_IN_A_WEEK } },
    ],
    [
      'metadata',
      { metadata: { team: 'b', tags: ['z'], deep: { gone: null } } },
      { metadata: { team: 'b', tags: ['z'], deep: { kept: 1 } } },
    ],
    [
      'an object where there was none',
      { metadata: { team: { name: 'b' } } },
      { metadata: { ...current.metadata, team: { name: 'b' } } },
    ],
    [
      'permissions and lists that are taken away',
      { permissions: null, grantable: null, rateLimits: null, ipAllowlist: null },
      {},
    ],
  ])('%s', (_what, input, changed) => {
    expect(parseUpdateInput(input, current, NOW)).toEqual({ ...current, ...changed });
  });

  test('a setting that was absent starts from its defaults', () => {
    const update = (input: UpdateKeyInput) => parseUpdateInput(input, DEFAULTS, NOW);
    expect(update({ jwt: { ttl: 60 } }).jwt).toEqual({ ...DEFAULT_JWT, ttlSeconds: 60 });
    expect(update({ rotation: {} }).rotation).toEqual({
      everySeconds: null,
      overlapSeconds: 86_400,
      ...CLAIMED_IN_A_WEEK,
    });
    expect(update({ metadata: { a: { b: null, c: 1 } } }).metadata).toEqual({ a: { c: 1 } });
  });

  test('removed lists become empty', () => {
    const full: KeySettings = {
      ...DEFAULTS,
      ...{ permissions: ['a'], grantable: ['b'], ipAllowlist: ['10.0.0.0/8'] },
      rateLimits: [{ name: 'burst', limit: 1, windowSeconds: 1 }],
    };
    const taken = { permissions: null, grantable: null, rateLimits: null, ipAllowlist: null };
    expect(parseUpdateInput(taken, full, NOW)).toEqual(DEFAULTS);
  });

  test.each<[string, unknown]>([
    ['quota.period', { quota: { period: null } }],
    ['quota.limit', { quota: { limit: null } }],
    ['quota.limit', { quota: { limit: 0 } }],
    ['quota.colour', { quota: { colour: null } }],
    ['rotation.overlap', { rotation: { overlap: '31d' } }],
    ['rotation.everyy', { rotation: { everyy: null } }],
    ['jwt.audiance', { jwt: { audiance: null } }],
    ['jwt.ttl', { jwt: { ttl: '61m' } }],
    ['jwt.customClaims', { jwt: { customClaims: { sub: 'other' } } }],
    ['jwt.customClaims', { jwt: { customClaims: { text: 'x'.repeat(5_000) } } }],
    ['jwt.algorithm', { jwt: { algorithm: 'none' } }],
    ['metadata', { metadata: { text: 'x'.repeat(METADATA_BYTES_MAX) } }],
    ['metadata', { metadata: { at: new Date(0) } }],
    ['metadata', { metadata: JSON.parse('{"a":{"__proto__":{"b":1}}}') }],
    ['metadata', { metadata: Array.from({ length: 40 }).reduce((inner) => ({ deeper: inner }), {}) }],
    ['metadata', { metadata: circular() }],
  ])('an error names %s if the merged settings are invalid: %j', (field, input) => {
    expect(refusal(() => parseUpdateInput(input, current, NOW))).toMatchObject({ code: 'invalid_request', field });
  });

  test('the merged settings are checked: an algorithm that does not allow the lifetime that stays', () => {
    const long: KeySettings = { ...current, jwt: { ...jwt, ttlSeconds: 3_600 } };
    const refused = refusal(() => parseUpdateInput({ jwt: { algorithm: 'HS256' } }, long, NOW));
    expect(refused).toMatchObject({ code: 'invalid_request', field: 'jwt.ttl' });
  });

  test('changing the patch object after the call changes no record', () => {
    const metadata = { tags: ['a'] };
    const settings = parseUpdateInput({ metadata }, DEFAULTS, NOW);
    metadata.tags.push('b');
    expect(settings.metadata).toEqual({ tags: ['a'] });
  });

  test('sending back the settings that were shown changes nothing', () => {
    fc.assert(
      fc.property(anyKeySettings, (given) => {
        // A null in it would take away, and is the one value that no patch can set (RFC 7396 section 1).
        fc.pre(!JSON.stringify([given.jwt, given.metadata]).includes(':null'));
        const settings = { ...given, notBefore: null, expiresAt: null, grantable: [] };
        const { environment: _, ...shown } = settingsToWire(settings);
        expect(parseUpdateInput(shown, settings, NOW)).toEqual(settings);
      }),
    );
  });
});

/** The examples of RFC 7396, appendix A. */
test.each([
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [
    ['a', 'b'],
    ['c', 'd'],
    ['c', 'd'],
  ],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
])('%j merged with %j is %j', (target, patch, result) => {
  expect(mergePatch(target, patch)).toEqual(result);
});

test('merging changes no prototype', () => {
  const patch = JSON.parse('{"__proto__":{"admin":true},"a":{"__proto__":{"admin":true}}}') as unknown;
  const merged = mergePatch({ a: {} }, patch) as { a: object; admin?: boolean };
  expect(merged.admin).toBeUndefined();
  expect((merged.a as { admin?: boolean }).admin).toBeUndefined();
  expect(Object.keys(merged)).toContain('__proto__');
});

test('the schemas in the documents are those that parse the input', () => {
  expect(KEY_INPUT_SCHEMAS.create.safeParse({ userId: 'u', name: 'n' }).success).toBe(true);
  expect(KEY_INPUT_SCHEMAS.update.safeParse({ environment: 'test' }).success).toBe(false);
  expect(KEY_INPUT_SCHEMAS.update.safeParse({ jwt: { ttl: '5m' }, quota: null }).success).toBe(true);
});

function circular(): object {
  const loop: Record<string, unknown> = {};
  loop['again'] = loop;
  return loop;
}
