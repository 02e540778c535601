import fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyKeySettings } from '../testing/arbitraries.ts';
import { PERSONAL_ATTRIBUTES } from './event-data.ts';
import type { KeySettings } from './key.ts';
import { settingsFromWire, settingsToWire } from './key-wire.ts';
import { instantToWire } from './setting-codecs.ts';

const CLAIMED_IN_A_WEEK = { windowSeconds: 604_800, onMissed: 'extend', recipientJwk: null } as const;

const SETTINGS: KeySettings = {
  userId: 'u',
  name: 'n',
  description: null,
  environment: 'test',
  permissions: ['a:*'],
  grantable: [],
  notBefore: null,
  expiresAt: Date.UTC(2030, 0, 31),
  rateLimits: [{ name: 'burst', limit: 5, windowSeconds: 90 }],
  quota: { limit: 1_000, period: 'day' },
  ipAllowlist: ['10.0.0.0/8'],
  rotation: { everySeconds: 7_776_000, overlapSeconds: 86_400, ...CLAIMED_IN_A_WEEK },
  jwt: { algorithm: 'ES256', audience: ['https://api.example'], customClaims: { plan: 'pro' }, ttlSeconds: 300 },
  metadata: { team: 'x' },
};

test('settings are written as the API shows them', () => {
  expect(settingsToWire(SETTINGS)).toEqual({
    ...SETTINGS,
    expiresAt: '2030-01-31T00:00:00.000Z',
    rateLimits: [{ name: 'burst', limit: 5, window: '90s' }],
    rotation: { every: '90d', overlap: '1d', window: '7d', onMissed: 'extend', recipientJwk: null },
    jwt: { algorithm: 'ES256', audience: ['https://api.example'], customClaims: { plan: 'pro' }, ttl: '5m' },
  });
});

test('settings are parsed from the wire as they were, also through JSON', () => {
  fc.assert(
    fc.property(anyKeySettings, (settings) => {
      const wire = settingsToWire(settings);
      expect(settingsFromWire(wire)).toEqual(settings);
      expect(settingsFromWire(JSON.parse(JSON.stringify(wire)))).toEqual(settings);
    }),
  );
});

test('settings that were erased as personal are read as empty, an address list as one that matches nothing; the other deciding settings stay', () => {
  fc.assert(
    fc.property(anyKeySettings, (settings) => {
      const open = Object.entries(settingsToWire(settings)).filter(([name]) => !PERSONAL_ATTRIBUTES.has(name));
      const nowhere = ['255.255.255.255/32'];
      const erased = { userId: '', name: '', description: null, metadata: null, jwt: null, ipAllowlist: nowhere };
      expect(settingsFromWire(Object.fromEntries(open))).toEqual({ ...settings, ...erased });
    }),
  );
});

test('a stored duration in a form that this service does not write is an error', () => {
  const wire = { ...settingsToWire(SETTINGS), rotation: { every: null, overlap: 'soon' } };
  expect(() => settingsFromWire(wire)).toThrow('The stored setting rotation.overlap has a value');
});

test.each([
  [null, null],
  [0, '1970-01-01T00:00:00.000Z'],
])('the instant %s is written %s', (instant, text) => {
  expect(instantToWire(instant)).toBe(text);
});

test('a stored setting that this version does not know is an error that names it', () => {
  const wire = settingsToWire(SETTINGS);
  const jwt = wire['jwt'] as object;
  const unknown: readonly (readonly [string, object])[] = [
    ['environment', { environment: 'any' }],
    ['environment', { environment: undefined }],
    ['permissions', { permissions: 'a:*' }],
    ['permissions', { permissions: [1] }],
    ['expiresAt', { expiresAt: 'never' }],
    ['expiresAt', { expiresAt: 1_900_000_000_000 }],
    ['notBefore', { notBefore: '' }],
    ['rateLimits', { rateLimits: null }],
    ['rateLimits', { rateLimits: [{ name: 'a', limit: 1, window: '1s', scope: 'user' }] }],
    ['rateLimits.limit', { rateLimits: [{ name: 'a', limit: '1', window: '1s' }] }],
    ['rateLimits.window', { rateLimits: [{ name: 'a', limit: 1, window: 'long' }] }],
    ['quota.period', { quota: { limit: 1, period: 'year' } }],
    ['quota', { quota: { limit: 1, period: 'day', scope: 'user' } }],
    ['quota', { quota: 7 }],
    ['ipAllowlist', { ipAllowlist: ['anywhere'] }],
    ['rotation.overlap', { rotation: { every: null } }],
    ['jwt.algorithm', { jwt: { ...jwt, algorithm: 'none' } }],
    ['jwt', { jwt: { ...jwt, subject: 'x' } }],
    ['metadata', { metadata: [] }],
  ];
  for (const [name, change] of unknown)
    expect(() => settingsFromWire({ ...wire, ...change }), JSON.stringify(change)).toThrow(
      `The stored setting ${name} has a value`,
    );
});
