import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson, type Json, type JsonObject } from '../foundation/encoding.ts';
import { parseStrictJson } from '../foundation/strict-json.ts';
import {
  type AccessTokenFacts,
  buildAccessTokenClaims,
  buildKeySignedClaims,
  CUSTOM_CLAIMS_DEPTH_MAX,
  checkClaims,
  checkCustomClaims,
  isSigningAlgorithm,
  LEEWAY_SECONDS_DEFAULT,
  LEEWAY_SECONDS_MAX,
  parseClaims,
  permissionsOfScope,
  RESERVED_CLAIMS,
  TOKEN_TYPES,
  tokenKindOf,
} from './claims.ts';

const KEY_ID = '0123456789abcDEF';
const NOW_SECONDS = 1_800_000_000;
const NOW = NOW_SECONDS * 1000;
const FACTS: AccessTokenFacts = {
  issuer: 'https://auth.example',
  audience: ['https://api.example'],
  keyId: KEY_ID,
  tokenId: 'token-1',
  permissions: ['docs:read', 'mail:*'],
  now: NOW,
  lifetimeSeconds: 300,
  keyExpiresAt: null,
  subject: 'user_1',
  tenantId: 'default',
  keyVersion: 2,
  environment: 'live',
  customClaims: { plan: 'pro' },
};
const ACCESS = buildAccessTokenClaims(FACTS);
const KEY_SIGNED = buildKeySignedClaims(FACTS);
const without = (payload: JsonObject, name: string): JsonObject =>
  Object.fromEntries(Object.entries(payload).filter(([other]) => other !== name));

test('the algorithms are four, in exactly this case', () => {
  expect(['HS256', 'RS256', 'ES256', 'Ed25519'].every(isSigningAlgorithm)).toBe(true);
  expect(['none', 'None', 'hs256', 'HS512', 'EdDSA', '', ' HS256', null, 1, ['HS256']].some(isSigningAlgorithm)).toBe(
    false,
  );
});

describe('the kinds of token exclude each other', () => {
  test.each([
    ['at+jwt', 'ES256', 'access'],
    ['application/at+jwt', 'RS256', 'access'],
    ['at+jwt', 'Ed25519', 'access'],
    ['pantheon-key+jwt', 'HS256', 'key_signed'],
    ['at+jwt', 'HS256', null],
    ['application/at+jwt', 'HS256', null],
    ['pantheon-key+jwt', 'ES256', null],
    ['application/pantheon-key+jwt', 'HS256', null],
    ['JWT', 'ES256', null],
    ['', 'ES256', null],
    ['AT+JWT', 'ES256', null],
    ['dpop+jwt', 'ES256', null],
    ['statuslist+jwt', 'ES256', null],
  ] as const)('typ %s with %s is %s', (typ, alg, kind) => {
    expect(tokenKindOf({ typ, alg })).toBe(kind);
  });

  test('a token that this service signs is recognized by its kind', () => {
    expect(tokenKindOf({ typ: TOKEN_TYPES.access, alg: 'ES256' })).toBe('access');
    expect(tokenKindOf({ typ: TOKEN_TYPES.key_signed, alg: 'HS256' })).toBe('key_signed');
  });

  test('the payload of one kind of token is refused for the other', () => {
    expect(parseClaims('access', KEY_SIGNED)).toBeNull();
    expect(parseClaims('key_signed', ACCESS)).toBeNull();
  });
});

describe('claims are parsed strictly', () => {
  test('the claims of an access token are parsed as they were built', () => {
    expect(parseClaims('access', ACCESS)).toEqual({
      kind: 'access',
      iss: 'https://auth.example',
      sub: 'user_1',
      aud: ['https://api.example'],
      client_id: KEY_ID,
      exp: NOW_SECONDS + 300,
      iat: NOW_SECONDS,
      jti: 'token-1',
      scope: 'docs:read mail:*',
      tenant_id: 'default',
      key_version: 2,
      environment: 'live',
      custom: { plan: 'pro' },
    });
  });

  test('a key-signed token contains claims about its own key and nothing else', () => {
    expect(parseClaims('key_signed', { ...KEY_SIGNED, nbf: 5, admin: true })).toEqual({
      kind: 'key_signed',
      iss: 'https://auth.example',
      sub: KEY_ID,
      aud: ['https://api.example'],
      client_id: KEY_ID,
      exp: NOW_SECONDS + 300,
      iat: NOW_SECONDS,
      nbf: 5,
      jti: 'token-1',
      scope: 'docs:read mail:*',
    });
    expect(parseClaims('key_signed', { ...KEY_SIGNED, sub: 'fedcba9876543210' })).toBeNull();
    expect(parseClaims('key_signed', { ...KEY_SIGNED, client_id: 'fedcba9876543210' })).toBeNull();
    expect(parseClaims('key_signed', { ...KEY_SIGNED, sub: 'user_1', client_id: 'user_1' })).toBeNull();
  });

  test.each(['iss', 'sub', 'aud', 'client_id', 'exp', 'iat', 'jti'])('%s is required in both kinds', (name) => {
    expect(parseClaims('access', without(ACCESS, name))).toBeNull();
    expect(parseClaims('key_signed', without(KEY_SIGNED, name))).toBeNull();
  });

  test.each(['tenant_id', 'key_version', 'environment'])('%s is required in an access token', (name) => {
    expect(parseClaims('access', without(ACCESS, name))).toBeNull();
  });

  test('nbf and scope may be absent', () => {
    expect(parseClaims('access', without(ACCESS, 'scope'))).not.toHaveProperty('scope');
    expect(parseClaims('access', ACCESS)).not.toHaveProperty('nbf');
  });

  const notTimes: Json[] = [
    null,
    true,
    '9999999999',
    '',
    -1,
    1.5e9 + 0.5,
    2 ** 40,
    2 ** 53 + 1,
    2 ** 63,
    [],
    [1],
    {},
    Number.NaN,
  ];
  const times = ['exp', 'iat', 'nbf'].flatMap((name) =>
    [...notTimes, Number.POSITIVE_INFINITY].map((value) => [name, value] as const),
  );
  test.each(times)('%s = %j is refused as a time', (name, value) => {
    expect(parseClaims('access', { ...ACCESS, [name]: value })).toBeNull();
    expect(parseClaims('key_signed', { ...KEY_SIGNED, [name]: value })).toBeNull();
  });

  test.each([0, 1, 2 ** 31, 2 ** 32, 2 ** 40 - 1])('exp = %i is accepted as a time', (exp) => {
    expect(parseClaims('access', { ...ACCESS, exp })).toMatchObject({ exp });
  });

  const long = (length: number) => 'x'.repeat(length);
  test.each<[string, Json]>([
    ...['iss', 'sub', 'jti'].flatMap((name) =>
      [null, '', 1, [], ['a'], {}, long(513)].map((value): [string, Json] => [name, value]),
    ),
    ...['', 'short', long(17), '0123456789abcDE_', `${KEY_ID}\n`, 1, null].map((value): [string, Json] => [
      'client_id',
      value,
    ]),
    ...[null, '', 'A', '-x', 1, long(65)].map((value): [string, Json] => ['tenant_id', value]),
    ...[null, 0, -1, '1', 1.5, []].map((value): [string, Json] => ['key_version', value]),
    ...[null, '', 'LIVE', 'prod', ['live']].map((value): [string, Json] => ['environment', value]),
    ...['', ' ', 'a  b', ' a', 'a ', 'A', 'a\nb', 'a\tb', '**', 'a*', long(129), 1, null, ['a']].map(
      (value): [string, Json] => ['scope', value],
    ),
    ...['', [], [null], ['x', ['y']], [''], ['a', 1], {}, 1, null, true, long(513)].map((value): [string, Json] => [
      'aud',
      value,
    ]),
    ...[null, {}, { jkt: 'x' }].map((value): [string, Json] => ['cnf', value]),
  ])('%s = %j is refused', (name, value) => {
    expect(parseClaims('access', { ...ACCESS, [name]: value })).toBeNull();
  });

  test('bounds hold on both sides', () => {
    const parses = (change: JsonObject) => parseClaims('access', { ...ACCESS, ...change }) !== null;
    expect([parses({ sub: long(256) }), parses({ sub: long(257) })]).toEqual([true, false]);
    expect([parses({ jti: long(128) }), parses({ jti: long(129) })]).toEqual([true, false]);
    expect([parses({ iss: long(512) }), parses({ iss: long(513) })]).toEqual([true, false]);
    expect([parses({ aud: Array(16).fill('a') }), parses({ aud: Array(17).fill('a') })]).toEqual([true, false]);
    expect(parses({ aud: Array(10_000).fill('a') })).toBe(false);
    const scope = (count: number) => Array.from({ length: count }, (_, at) => `p:${at}`).join(' ');
    expect([parses({ scope: scope(256) }), parses({ scope: scope(257) })]).toEqual([true, false]);
  });

  test('a scope is parsed as its permissions, and no scope as none', () => {
    expect(permissionsOfScope('a:b c:*')).toEqual(['a:b', 'c:*']);
    expect(permissionsOfScope(undefined)).toEqual([]);
    expect(permissionsOfScope('')).toBeNull();
    expect(permissionsOfScope('a '.repeat(100_000))).toBeNull();
  });
});

describe('claims about time are compared exactly', () => {
  const expectations = {
    issuer: 'https://auth.example',
    audience: ['https://other.example', 'https://api.example'],
    audienceOnly: false,
    now: NOW,
    leewaySeconds: 30,
    lifetimeMaxSeconds: 3600,
  };
  const check = (change: JsonObject, more: Partial<typeof expectations> = {}) => {
    const claims = parseClaims('access', { ...ACCESS, ...change });
    if (claims === null) throw new Error('The test needs claims that parse.');
    return checkClaims(claims, { ...expectations, ...more });
  };

  test.each([
    [NOW_SECONDS + 30, 0, null],
    [NOW_SECONDS + 1, 0, null],
    [NOW_SECONDS, 0, 'expired'],
    [NOW_SECONDS - 1, 0, 'expired'],
    [NOW_SECONDS, 30, null],
    [NOW_SECONDS - 29, 30, null],
    [NOW_SECONDS - 30, 30, 'expired'],
    [NOW_SECONDS - 31, 30, 'expired'],
    [NOW_SECONDS - 119, 10_000, null],
    [NOW_SECONDS - 120, 10_000, 'expired'],
    [0, 120, 'expired'],
  ])('exp %i with a leeway of %i s: %s', (exp, leewaySeconds, expected) => {
    expect(check({ exp, iat: Math.max(0, NOW_SECONDS - 200) }, { leewaySeconds })).toBe(expected);
  });

  test.each([
    ['https://api.example', null],
    [['https://api.example', 'https://other.example'], null],
    [['https://api.example', 'https://third.example'], 'wrong_audience'],
    ['https://third.example', 'wrong_audience'],
  ])('for audience %j: for a verifier that accepts no other audience in the token: %s', (aud, expected) => {
    expect(check({ exp: NOW_SECONDS + 10, aud }, { audienceOnly: true })).toBe(expected);
  });

  test('exp is compared to the millisecond', () => {
    const exp = NOW_SECONDS + 10;
    expect(check({ exp }, { leewaySeconds: 0, now: exp * 1000 - 1 })).toBeNull();
    expect(check({ exp }, { leewaySeconds: 0, now: exp * 1000 })).toBe('expired');
    expect(check({ exp }, { leewaySeconds: 30, now: exp * 1000 + 29_999 })).toBeNull();
    expect(check({ exp }, { leewaySeconds: 30, now: exp * 1000 + 30_000 })).toBe('expired');
  });

  test.each([
    ['nbf', NOW_SECONDS, 0, null],
    ['nbf', NOW_SECONDS + 1, 0, 'not_yet_active'],
    ['nbf', NOW_SECONDS + 30, 30, null],
    ['nbf', NOW_SECONDS + 31, 30, 'not_yet_active'],
    ['nbf', NOW_SECONDS + 121, 500, 'not_yet_active'],
    ['nbf', 0, 0, null],
    ['iat', NOW_SECONDS, 0, null],
    ['iat', NOW_SECONDS + 1, 0, 'not_yet_active'],
    ['iat', NOW_SECONDS + 30, 30, null],
    ['iat', NOW_SECONDS + 31, 30, 'not_yet_active'],
  ])('%s %i with a leeway of %i s: %s', (name, value, leewaySeconds, expected) => {
    expect(check({ exp: NOW_SECONDS + 300, [name]: value }, { leewaySeconds })).toBe(expected);
  });

  test.each([
    [NOW_SECONDS, NOW_SECONDS + 3600, null],
    [NOW_SECONDS, NOW_SECONDS + 3601, 'unknown'],
    [NOW_SECONDS - 3000, NOW_SECONDS + 600, null],
    [NOW_SECONDS - 3001, NOW_SECONDS + 600, 'unknown'],
    [NOW_SECONDS + 20, NOW_SECONDS + 10, 'unknown'],
    [0, 2 ** 40 - 1, 'unknown'],
  ])('from %i to %i, at most an hour: %s', (iat, exp, expected) => {
    expect(check({ iat, exp })).toBe(expected);
  });

  test('a token that ends before it begins is refused', () => {
    expect(check({ exp: NOW_SECONDS + 10, nbf: NOW_SECONDS + 11 })).toBe('unknown');
  });

  test.each([
    'https://auth.example/',
    'https://AUTH.example',
    'http://auth.example',
    'https://auth.example.evil',
    'https://аuth.example',
    ' https://auth.example',
  ])('the issuer is compared exactly: %s', (iss) => {
    expect(check({ iss })).toBe('unknown');
  });

  test.each<[Json, string | null]>([
    ['https://api.example', null],
    [['https://x.example', 'https://other.example'], null],
    ['https://api.example.evil', 'wrong_audience'],
    ['https://api.exampl', 'wrong_audience'],
    ['https://API.example', 'wrong_audience'],
    ['https://api.example/', 'wrong_audience'],
    ['https://api.example https://other.example', 'wrong_audience'],
    [['https://x.example', 'https://y.example'], 'wrong_audience'],
  ])('the audience %j: %s', (aud, expected) => {
    expect(check({ aud })).toBe(expected);
  });

  test('a verifier without an audience accepts nothing', () => {
    expect(check({}, { audience: [] })).toBe('wrong_audience');
  });

  test('a leeway or a clock that is no number accepts nothing', () => {
    expect(check({}, { leewaySeconds: Number.NaN })).toBe('expired');
    expect(check({}, { now: Number.NaN })).toBe('expired');
    expect(check({}, { lifetimeMaxSeconds: Number.NaN })).toBe('unknown');
  });

  test('the rule, for any times', () => {
    const seconds = fc.integer({ min: NOW_SECONDS - 300, max: NOW_SECONDS + 300 });
    fc.assert(
      fc.property(seconds, seconds, seconds, fc.integer({ min: 0, max: 300 }), (iat, nbf, exp, leewaySeconds) => {
        const leeway = Math.min(leewaySeconds, LEEWAY_SECONDS_MAX);
        const holds =
          NOW_SECONDS < exp + leeway &&
          nbf <= NOW_SECONDS + leeway &&
          iat <= NOW_SECONDS + leeway &&
          exp >= iat &&
          exp >= nbf;
        expect(check({ iat, nbf, exp }, { leewaySeconds }) === null).toBe(holds);
      }),
      { numRuns: 2000 },
    );
    expect(LEEWAY_SECONDS_DEFAULT).toBeLessThanOrEqual(LEEWAY_SECONDS_MAX);
  });
});

describe('custom claims cannot have reserved names', () => {
  test.each([...RESERVED_CLAIMS])('%s is refused with its name, and is in no token', (name) => {
    const claims = JSON.parse(`{"ok":1,"${name}":"attacker"}`) as JsonObject;
    expect(checkCustomClaims(claims)).toBe(name);
    const built = buildAccessTokenClaims({ ...FACTS, customClaims: claims });
    expect(Object.hasOwn(built, name) ? built[name] : undefined).toEqual(
      Object.hasOwn(ACCESS, name) ? ACCESS[name] : undefined,
    );
    expect(built['ok']).toBe(1);
    expect(Object.getPrototypeOf(built)).toBe(Object.prototype);
  });

  test('names that only resemble reserved ones are allowed', () => {
    expect(
      checkCustomClaims({ Sub: 1, roles: ['a'], 'https://example.com/claims/sub': null, nested: { sub: 1, iss: 'x' } }),
    ).toBeNull();
    expect(checkCustomClaims({})).toBeNull();
    expect(checkCustomClaims(Object.create(null))).toBeNull();
  });

  test('claims that pass the check are parsed from the token unchanged', () => {
    const name = fc.oneof(fc.string({ maxLength: 20 }), fc.constantFrom(...RESERVED_CLAIMS));
    const claims = fc.dictionary(name, fc.jsonValue({ maxDepth: 10, noUnicodeString: false }), { maxKeys: 40 });
    fc.assert(
      fc.property(claims, (customClaims) => {
        if (checkCustomClaims(customClaims) !== null) return;
        const built = buildAccessTokenClaims({ ...FACTS, customClaims: customClaims as JsonObject });
        const read = parseStrictJson(JSON.stringify(built), { depthMax: CUSTOM_CLAIMS_DEPTH_MAX });
        const parsed = parseClaims('access', read.ok ? (read.value as JsonObject) : {});
        expect(parsed).toMatchObject({
          ...parseClaims('access', ACCESS),
          custom: JSON.parse(JSON.stringify(customClaims)),
        });
      }),
      { numRuns: 500 },
    );
  });

  test.each([null, undefined, 1, 'x', [], [{}], new Map(), new Date(0), () => 1, new (class A {})()])(
    '%s is refused as custom claims',
    (claims) => {
      expect(checkCustomClaims(claims)).toBe('');
    },
  );

  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['a function', () => 1],
    ['a symbol', Symbol('x')],
    ['a big integer', 1n],
    ['NaN', Number.NaN],
    ['infinity', Number.POSITIVE_INFINITY],
    ['a date', new Date(0)],
    ['a map', new Map()],
    ['an instance', new (class A {})()],
    ['a lone surrogate', '\ud800'],
    ['a name that is a lone surrogate', { '\ud800': 1 }],
    ['a hole', new Array(2)],
    ['its own toJSON', { toJSON: () => 'other' }],
    ['a nested __proto__', JSON.parse('{"__proto__":{"x":1}}')],
    ['a nested constructor', [{ constructor: 1 }]],
    ['a cycle', cycle],
    ['nine levels', [[[[[[[[1]]]]]]]]],
  ])('a value that JSON cannot represent is refused: %s', (_name, bad) => {
    expect(checkCustomClaims({ good: 1, bad })).toBe('bad');
  });

  test('bounds hold on both sides', () => {
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`c${at}`, at]));
    expect([checkCustomClaims(many(32)), checkCustomClaims(many(33))]).toEqual([null, '']);
    const sized = (bytes: number) => ({ a: 'x'.repeat(bytes - '{"a":""}'.length) });
    expect(canonicalJson(sized(4096))).toHaveLength(4096);
    expect([checkCustomClaims(sized(4096)), checkCustomClaims(sized(4097))]).toEqual([null, '']);
    expect(checkCustomClaims({ a: 'ü'.repeat(2044) })).toBeNull();
    expect(checkCustomClaims({ a: 'ü'.repeat(2045) })).toBe('');
    expect(checkCustomClaims({ a: [[[[[[[]]]]]]] })).toBeNull();
    expect(checkCustomClaims({ a: [[[[[[[[]]]]]]]] })).toBe('a');
    expect(checkCustomClaims({ ['n'.repeat(256)]: 1 })).toBeNull();
    expect(checkCustomClaims({ ['n'.repeat(257)]: 1 })).toHaveLength(256);
    expect(checkCustomClaims({ '': 1 })).toBe('');
    expect(checkCustomClaims({ '\ud800': 1 })).toBe('\ufffd');
  });

  test('checking a hostile value takes little time', () => {
    let broad: unknown = 1;
    for (let level = 0; level < 7; level += 1) broad = Array(100).fill(broad);
    expect(checkCustomClaims({ broad })).toBe('');
    expect(checkCustomClaims({ text: ['x'.repeat(3000), { b: 'x'.repeat(3000) }] })).toBe('');
    expect(checkCustomClaims({ huge: 'x'.repeat(50_000_000) })).toBe('');
    expect(checkCustomClaims({ sparse: new Array(2 ** 32 - 1) })).toBe('');
  });
});

describe('the claims of a token', () => {
  test('have times in whole seconds, and no token outlives its key', () => {
    expect(buildKeySignedClaims({ ...FACTS, now: NOW + 999 })).toMatchObject({
      iat: NOW_SECONDS,
      exp: NOW_SECONDS + 300,
    });
    expect(buildKeySignedClaims({ ...FACTS, keyExpiresAt: NOW + 10_999 })).toMatchObject({ exp: NOW_SECONDS + 10 });
    expect(buildKeySignedClaims({ ...FACTS, keyExpiresAt: NOW + 1e9 })).toMatchObject({ exp: NOW_SECONDS + 300 });
    expect(buildAccessTokenClaims({ ...FACTS, keyExpiresAt: NOW + 500 })).toMatchObject({
      iat: NOW_SECONDS,
      exp: NOW_SECONDS,
    });
  });

  test('have several audiences as a list, and no scope if there is no permission', () => {
    expect(buildKeySignedClaims({ ...FACTS, audience: ['a', 'b'] })['aud']).toEqual(['a', 'b']);
    expect(buildAccessTokenClaims({ ...FACTS, permissions: [], customClaims: { scope: 'admin' } })).not.toHaveProperty(
      'scope',
    );
  });
});
