import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NAME_LENGTH_MAX, parseName, parseReason, REASON_LENGTH_MAX } from '../commands/input.ts';
import type { KeySettings } from '../domain/key.ts';
import { settingsToWire } from '../domain/key-wire.ts';
import { RATE_LIMIT_MAX } from '../domain/limits.ts';
import { isReserved, PERMISSIONS_MAX } from '../domain/permissions.ts';
import { DAY_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { anyKeySettings } from '../testing/arbitraries.ts';
import { generateKey } from './key-generator.ts';
import {
  type CreateKeyInput,
  IP_RANGES_MAX,
  METADATA_BYTES_MAX,
  parseCreateInput,
  RATE_LIMITS_MAX,
  USER_ID_LENGTH_MAX,
} from './key-input.ts';
import { parseRotateInput } from './rotation-input.ts';

const RECIPIENT_JWK = { kty: 'OKP', crv: 'X25519', x: 'hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo' };
const CLAIMED_IN_A_WEEK = { windowSeconds: 604_800, onMissed: 'extend', recipientJwk: null } as const;

const NOW = Date.UTC(2030, 0, 1);
const LEAST = { userId: 'u', name: 'n' };
const DEFAULTS: KeySettings = {
  ...{ ...LEAST, description: null, environment: 'live', permissions: [], grantable: [], notBefore: null },
  ...{ expiresAt: null, rateLimits: [], quota: null, ipAllowlist: [], rotation: null, jwt: null, metadata: null },
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
const create = (input: unknown): PantheonError | null => refusal(() => parseCreateInput(input, NOW));
const lines = (count: number): string[] => Array.from({ length: count }, (_, at) => `p${at}`);
const nested = (depth: number): unknown => (depth === 0 ? 1 : { deeper: nested(depth - 1) });

describe('the settings of a new key', () => {
  test('need a user and a name; the defaults grant nothing', () => {
    expect(parseCreateInput(LEAST, NOW)).toEqual(DEFAULTS);
  });

  test.each<[string, Partial<CreateKeyInput>, Partial<KeySettings>]>([
    ['a time in another zone', { expiresAt: '2031-01-01T02:00:00+02:00' }, { expiresAt: Date.UTC(2031, 0, 1) }],
    ['a Date', { expiresAt: new Date(NOW + 1) }, { expiresAt: NOW + 1 }],
    ['a duration', { expiresIn: '90d' }, { expiresAt: NOW + 90 * DAY_MS }],
    ['seconds', { expiresIn: 60 }, { expiresAt: NOW + 60_000 }],
    ['a beginning', { notBefore: '2029-01-01T00:00:00Z' }, { notBefore: Date.UTC(2029, 0, 1) }],
    ['an environment', { environment: 'test' }, { environment: 'test' }],
    ['null where something may be missing', { expiresAt: null, quota: null, jwt: null, metadata: null }, {}],
    ['null in every place', { description: null, environment: null, permissions: null, grantable: null }, {}],
    [
      'null in every list',
      { notBefore: null, expiresIn: null, rateLimits: null, ipAllowlist: null, rotation: null },
      {},
    ],
    ['null for the other of two', { expiresIn: 60, expiresAt: null }, { expiresAt: NOW + 60_000 }],
    [
      'null inside',
      { rotation: { every: null, overlap: null } },
      { rotation: { everySeconds: null, overlapSeconds: 86_400, ...CLAIMED_IN_A_WEEK } },
    ],
    [
      'limits',
      { rateLimits: [{ name: 'burst', limit: 5, window: '1m' }], quota: { limit: 9, period: 'month' } },
      { rateLimits: [{ name: 'burst', limit: 5, windowSeconds: 60 }], quota: { limit: 9, period: 'month' } },
    ],
    ['addresses, made canonical', { ipAllowlist: ['10.1.2.3/8', '::1'] }, { ipAllowlist: ['10.0.0.0/8', '::1/128'] }],
    [
      'a rotation',
      { rotation: { every: '30d', overlap: '1h' } },
      { rotation: { everySeconds: 2_592_000, overlapSeconds: 3_600, ...CLAIMED_IN_A_WEEK } },
    ],
    [
      'a rotation by hand',
      { rotation: {} },
      { rotation: { everySeconds: null, overlapSeconds: 86_400, ...CLAIMED_IN_A_WEEK } },
    ],
    ['tokens', { jwt: {} }, { jwt: { algorithm: 'ES256', audience: [], customClaims: {}, ttlSeconds: 300 } }],
    ['any language', { name: 'Ключ 漢字 🔑' }, { name: 'Ключ 漢字 🔑' }],
    ['the longest name', { name: 'x'.repeat(NAME_LENGTH_MAX) }, { name: 'x'.repeat(NAME_LENGTH_MAX) }],
  ])('%s', (_what, input, settings) => {
    expect(parseCreateInput({ ...LEAST, ...input }, NOW)).toEqual({ ...DEFAULTS, ...settings });
  });

  test('what the API shows of a key can be sent back', () => {
    fc.assert(
      fc.property(anyKeySettings, (given) => {
        const settings = {
          ...given,
          notBefore: null,
          expiresAt: null,
          grantable: given.grantable.filter((p) => !isReserved(p)),
        };
        expect(parseCreateInput(settingsToWire(settings), NOW)).toEqual(settings);
      }),
    );
  });

  test('changing the input object after the call changes no record', () => {
    const metadata = { tags: ['a'] };
    const customClaims = { plan: { name: 'pro' } };
    const settings = parseCreateInput({ ...LEAST, metadata, jwt: { customClaims } }, NOW);
    metadata.tags.push('b');
    customClaims.plan.name = 'free';
    expect(settings.metadata).toEqual({ tags: ['a'] });
    expect(settings.jwt?.customClaims).toEqual({ plan: { name: 'pro' } });
  });
});

/** A field, and what must not be said in it. */
const BAD: readonly (readonly [string, unknown])[] = [
  ...(
    [
      '',
      ' ',
      'a ',
      ' a',
      'a\nb',
      'a\u0000',
      'a\u007f',
      'a\u0085b',
      'a\u202eb',
      'a\u2028b',
      '\ud800',
      5,
      null,
      {},
    ] as const
  ).flatMap((value) => [['userId', { userId: value }] as const, ['name', { name: value }] as const]),
  ['userId', { userId: 'x'.repeat(USER_ID_LENGTH_MAX + 1) }],
  ['name', { name: 'x'.repeat(NAME_LENGTH_MAX + 1) }],
  ['userId', { userId: undefined }],
  ['description', { description: '' }],
  ['description', { description: 'x'.repeat(1_025) }],
  ['environment', { environment: 'prod' }],
  ['permissions', { permissions: 'a:b' }],
  ['permissions[1]', { permissions: ['a', 'A'] }],
  ['permissions[0]', { permissions: ['a:*:b'] }],
  ['permissions[0]', { permissions: [7] }],
  ['permissions', { permissions: ['a', 'a'] }],
  ['permissions', { permissions: lines(PERMISSIONS_MAX + 1) }],
  ['grantable', { grantable: ['a', 'a'] }],
  ['grantable[0]', { grantable: [''] }],
  ['grantable', { grantable: ['pantheon:keys:read'] }],
  ['grantable', { grantable: ['pantheon'] }],
  ['notBefore', { notBefore: 'tomorrow' }],
  ['notBefore', { notBefore: '2031-01-01T00:00:00Z', expiresAt: '2031-01-01T00:00:00Z' }],
  ['expiresAt', { expiresAt: '2030-02-30T00:00:00Z' }],
  ['expiresAt', { expiresAt: '2031-01-01T00:00:00' }],
  ['expiresAt', { expiresAt: NOW + DAY_MS }],
  ['expiresAt', { expiresAt: new Date(Number.NaN) }],
  ['expiresAt', { expiresAt: '2029-12-31T23:59:59Z' }],
  ['expiresAt', { expiresAt: new Date(NOW) }],
  ['expiresIn', { expiresIn: '1y' }],
  ['expiresIn', { expiresIn: -1 }],
  ['expiresIn', { expiresIn: 0 }],
  ['expiresIn', { expiresIn: true }],
  ['expiresIn', { expiresIn: '1d', expiresAt: '2031-01-01T00:00:00Z' }],
  ['rateLimits', { rateLimits: {} }],
  [
    'rateLimits',
    {
      rateLimits: [
        { name: 'a', limit: 1, window: 1 },
        { name: 'a', limit: 2, window: 2 },
      ],
    },
  ],
  ['rateLimits', { rateLimits: lines(RATE_LIMITS_MAX + 1).map((name) => ({ name, limit: 1, window: 1 })) }],
  ['rateLimits[0].name', { rateLimits: [{ name: 'quota', limit: 1, window: 1 }] }],
  ['rateLimits[0].name', { rateLimits: [{ name: 'A', limit: 1, window: 1 }] }],
  ['rateLimits[0].limit', { rateLimits: [{ name: 'a', limit: 0, window: 1 }] }],
  ['rateLimits[0].limit', { rateLimits: [{ name: 'a', limit: 1.5, window: 1 }] }],
  ['rateLimits[0].limit', { rateLimits: [{ name: 'a', limit: RATE_LIMIT_MAX + 1, window: 1 }] }],
  ['rateLimits[0].window', { rateLimits: [{ name: 'a', limit: 1, window: 0 }] }],
  ['rateLimits[0].window', { rateLimits: [{ name: 'a', limit: 1, window: '32d' }] }],
  ['rateLimits[0].burst', { rateLimits: [{ name: 'a', limit: 1, window: 1, burst: 1 }] }],
  ['quota.limit', { quota: { limit: 0, period: 'day' } }],
  ['quota.limit', { quota: { limit: RATE_LIMIT_MAX + 1, period: 'day' } }],
  ['quota.period', { quota: { limit: 1, period: 'week' } }],
  ['ipAllowlist[0]', { ipAllowlist: ['127.1'] }],
  ['ipAllowlist', { ipAllowlist: lines(IP_RANGES_MAX + 1).map((_, at) => `10.0.0.${at}`) }],
  ['rotation.every', { rotation: { every: 0 } }],
  ['rotation.window', { rotation: { every: '1d', window: '59s' } }],
  ['rotation.window', { rotation: { every: '1d', window: '91d' } }],
  ['rotation.onMissed', { rotation: { every: '1d', onMissed: 'ignore' } }],
  ['rotation.onMissed', { rotation: { onMissed: 'expire' } }],
  [
    'rotation.recipientJwk',
    { rotation: { recipientJwk: { kty: 'OKP', crv: 'X25519', x: 'hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo' } } },
  ],
  ['rotation.recipientJwk', { rotation: { every: '1d', recipientJwk: {} } }],
  ['rotation.overlap', { rotation: { every: '1d', overlap: '1d', recipientJwk: RECIPIENT_JWK } }],
  ['rotation.overlap', { rotation: { overlap: '31d' } }],
  ['jwt.algorithm', { jwt: { algorithm: 'none' } }],
  ['jwt.algorithm', { jwt: { algorithm: 'es256' } }],
  ['jwt.audience[0]', { jwt: { audience: ['a b'] } }],
  ['jwt.audience', { jwt: { audience: lines(17) } }],
  ['jwt.customClaims', { jwt: { customClaims: { iss: 'me' } } }],
  ['jwt.customClaims', { jwt: { customClaims: { a: Number.NaN } } }],
  ['jwt.ttl', { jwt: { ttl: 0 } }],
  ['jwt.ttl', { jwt: { ttl: '61m' } }],
  ['jwt.ttl', { jwt: { algorithm: 'HS256', ttl: '6m' } }],
  ['metadata', { metadata: [] }],
  ['metadata', { metadata: 'text' }],
  ['metadata', { metadata: { at: new Date(0) } }],
  ['metadata', { metadata: { many: new Map() } }],
  ['metadata', { metadata: { nothing: undefined } }],
  ['metadata', { metadata: { number: Number.POSITIVE_INFINITY } }],
  ['metadata', { metadata: { big: 1n } }],
  ['metadata', { metadata: { half: '\ud800' } }],
  ['metadata', { metadata: { '\ud800': 1 } }],
  ['metadata', { metadata: { list: Object.assign([], { length: 2 }) } }],
  ['metadata', { metadata: { text: 'x'.repeat(METADATA_BYTES_MAX) } }],
  ['metadata', { metadata: nested(10) }],
  ['metadata', { metadata: JSON.parse('{"a":{"__proto__":{}}}') }],
  ['metadata', { metadata: { constructor: 1 } }],
  ['colour', { colour: 'red' }],
  ['isActive', { isActive: true }],
  ['constructor', { constructor: 1 }],
  ['toString', { toString: 1 }],
];

describe('an error names its field, and no key is created', () => {
  test.each(BAD.map(([field, input], index) => [field, index, input] as const))('%s (%i)', (field, _index, input) => {
    expect(create({ ...LEAST, ...(input as object) })).toMatchObject({ code: 'invalid_request', field });
  });

  test.each([
    ['userId', null],
    ['userId', {}],
    ['body', 5],
    ['body', 'text'],
    ['body', []],
  ])('%s, if the whole input is %j', (field, input) => {
    expect(create(input)).toMatchObject({ code: 'invalid_request', field });
  });

  test('a member with the name of a prototype is refused and not taken for a field', () => {
    const input = JSON.parse('{"userId":"u","name":"n","__proto__":{"environment":"test"}}') as unknown;
    expect(create(input)).toMatchObject({ code: 'invalid_request', field: '__proto__' });
  });

  test('the error says what to do', () => {
    expect(create({ ...LEAST, expiresIn: {} })?.detail).toContain('"15m"');
    expect(create({ ...LEAST, expiresAt: 5 })?.detail).toContain('ISO 8601');
    expect(create({ ...LEAST, jwt: { customClaims: { sub: 1 } } })?.detail).toContain('sub');
  });
});

/** Every place in which a caller can put a text: as a value, and as a name of its own. */
const PLACES: readonly ((text: string) => unknown)[] = [
  (text) => text,
  (text) => ({ ...LEAST, userId: `${text}\n` }),
  (text) => ({ ...LEAST, name: `${text}\u0000` }),
  (text) => ({ ...LEAST, description: text.repeat(1_000) }),
  (text) => ({ ...LEAST, environment: text }),
  (text) => ({ ...LEAST, permissions: [text] }),
  (text) => ({ ...LEAST, grantable: text }),
  (text) => ({ ...LEAST, notBefore: text }),
  (text) => ({ ...LEAST, expiresAt: text }),
  (text) => ({ ...LEAST, expiresIn: text }),
  (text) => ({ ...LEAST, rateLimits: [{ name: text, limit: text, window: text }] }),
  (text) => ({ ...LEAST, quota: { limit: 1, period: text } }),
  (text) => ({ ...LEAST, ipAllowlist: [text] }),
  (text) => ({ ...LEAST, rotation: { every: text } }),
  (text) => ({ ...LEAST, rotation: text }),
  (text) => ({ ...LEAST, rotation: { every: '1d', onMissed: text } }),
  (text) => ({ ...LEAST, rotation: { every: '1d', recipientJwk: { kty: 'oct', k: text } } }),
  (text) => ({ ...LEAST, rotation: { every: '1d', recipientJwk: { kty: text } } }),
  (text) => ({ ...LEAST, jwt: { algorithm: text } }),
  (text) => ({ ...LEAST, jwt: { audience: [` ${text}`] } }),
  (text) => ({ ...LEAST, jwt: { ttl: text } }),
  (text) => ({ ...LEAST, jwt: { customClaims: { iss: text } } }),
  (text) => ({ ...LEAST, metadata: { a: [text.repeat(1_000)] } }),
  (text) => ({ ...LEAST, metadata: text }),
];
const NAMES: readonly ((name: string) => unknown)[] = [
  (name) => ({ ...LEAST, [name]: 1 }),
  (name) => ({ ...LEAST, known: 1, [name]: 1 }),
  (name) => ({ ...LEAST, quota: { limit: 1, period: 'day', [name]: 1 } }),
  (name) => ({ ...LEAST, rateLimits: [{ [name]: 1, name: 'a', limit: 1, window: 1 }] }),
  (name) => ({ ...LEAST, jwt: { customClaims: { [name]: undefined } } }),
  (name) => ({ ...LEAST, rotation: { every: '1d', recipientJwk: { kty: 'RSA', [name]: 1 } } }),
  (name) => ({ ...LEAST, metadata: { [name]: undefined } }),
];

describe('an error never repeats what was sent (I1)', () => {
  const hexadecimal = fc.stringMatching(/^[0-9a-f]{8,64}$/);
  const anyText = fc.oneof(
    hexadecimal.map((text) => `${text}ZZ`),
    fc.constant(null).map(() => generateKey({ keyPrefix: 'pan', environment: 'live' }).key),
  );

  test('as a value', () => {
    fc.assert(
      fc.property(anyText, fc.constantFrom(...PLACES), (text, place) => {
        const error = create(place(text));
        expect(error).toBeInstanceOf(PantheonError);
        expect(`${error?.message}${error?.field}${error?.detail}`).not.toContain(text);
      }),
    );
  });

  test('as a name, unless it is short enough to be a typing error', () => {
    const anySecretName = anyText.filter((text) => text.length > 24);
    fc.assert(
      fc.property(anySecretName, fc.constantFrom(...NAMES), (name, place) => {
        const error = create(place(name));
        expect(error).toBeInstanceOf(PantheonError);
        expect(`${error?.message}${error?.field}${error?.detail}`).not.toContain(name);
      }),
    );
  });
});

describe('a rotation', () => {
  test.each([
    [undefined, null, null, false],
    [{}, null, null, false],
    [{ overlap: 0 }, 0, null, false],
    [{ overlap: '30d', expectedVersion: 3, retireOnFirstUse: null }, 2_592_000, 3, false],
    [{ retireOnFirstUse: true }, null, null, true],
  ])('%j', (input, overlapSeconds, expectedVersion, retireOnFirstUse) => {
    expect(parseRotateInput(input)).toEqual({ overlapSeconds, expectedVersion, retireOnFirstUse });
  });

  test.each([
    ['overlap', { overlap: '31d' }],
    ['retireOnFirstUse', { retireOnFirstUse: 'false' }],
    ['expectedVersion', { expectedVersion: 0 }],
    ['expectedVersion', { expectedVersion: '1' }],
    ['force', { force: true }],
  ])('%s is refused in %j', (field, input) => {
    expect(refusal(() => parseRotateInput(input))).toMatchObject({ code: 'invalid_request', field });
  });
});

test('every name is one line of text', () => {
  expect(parseName('Acme')).toBe('Acme');
  for (const bad of ['', 'a\nb', 'x'.repeat(NAME_LENGTH_MAX + 1), undefined, 5]) {
    expect(refusal(() => parseName(bad))).toMatchObject({ code: 'invalid_request', field: 'name' });
  }
});

describe('a reason', () => {
  test.each([
    ['lost laptop', 'lost laptop'],
    [undefined, null],
    [null, null],
  ])('%j', (input, reason) => {
    expect(parseReason(input)).toBe(reason);
  });

  test.each(['', 'x'.repeat(REASON_LENGTH_MAX + 1), 'a\r\nb', 5, {}])('%j is refused', (input) => {
    expect(refusal(() => parseReason(input))).toMatchObject({ code: 'invalid_request', field: 'reason' });
  });
});
