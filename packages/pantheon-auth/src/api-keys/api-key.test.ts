import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KeyRecord } from '../domain/key.ts';
import { anyKeyRecord } from '../testing/arbitraries.ts';
import { toApiKey, toApiKeyVersion } from './api-key.ts';

const CLAIMED_IN_A_WEEK = { windowSeconds: 604_800, onMissed: 'extend', recipientJwk: null } as const;

const view = { keyPrefix: 'pan', now: Date.UTC(2030, 0, 1) };

test('shows the fields of the record and nothing else: no hash, no secret, no null, no member without a value', () => {
  fc.assert(
    fc.property(anyKeyRecord, (record) => {
      const apiKey = toApiKey(record, [], view);
      expect(apiKey).toMatchObject({ id: record.id, tenantId: record.tenantId, version: record.version });
      expect(apiKey.hint).toBe(`pan_${record.environment}_${record.id}…`);
      for (const [name, value] of Object.entries(apiKey)) {
        expect(value, name).not.toBeNull();
        expect(value, name).not.toBeUndefined();
      }
      for (const name of ['secrets', 'keyHash', 'versions', 'revision', 'tokensNotBefore'])
        expect(apiKey).not.toHaveProperty(name);
      expect('description' in apiKey).toBe(record.description !== null);
      expect('jwt' in apiKey).toBe(record.jwt !== null);
      expect('stateChangedAt' in apiKey).toBe(record.state.kind !== 'active');
      expect(JSON.parse(JSON.stringify(apiKey))).toBeTypeOf('object');
    }),
  );
});

const RECORD: KeyRecord = {
  id: 'KeyKeyKeyKeyKeyK',
  tenantId: 'default',
  userId: 'u',
  name: 'n',
  description: null,
  environment: 'live',
  permissions: [],
  grantable: [],
  notBefore: null,
  expiresAt: null,
  rateLimits: [],
  quota: null,
  ipAllowlist: [],
  rotation: null,
  jwt: null,
  metadata: null,
  createdAt: 1_000,
  createdBy: null,
  idTag: 1,
  state: { kind: 'active' },
  tokensNotBefore: null,
  version: 2,
  versions: [
    { version: 2, createdAt: 5_000, acceptedUntil: null },
    { version: 1, createdAt: 1_000, acceptedUntil: 9_000 },
  ],
  revision: 2,
};

describe('computed members', () => {
  test('usage is the sum over the versions; the last use is the latest', () => {
    const usage = [
      { version: 1, usageCount: 3, lastUsedAt: 70, lastAddresses: [] },
      { version: 2, usageCount: 4, lastUsedAt: 60, lastAddresses: [] },
    ];
    expect(toApiKey(RECORD, usage, view)).toMatchObject({ usageCount: 7, lastUsedAt: new Date(70) });
    expect(toApiKey(RECORD, [], view)).not.toHaveProperty('lastUsedAt');
  });

  test('active means: not suspended or revoked, begun, not expired', () => {
    const isActive = (change: Partial<KeyRecord>) => toApiKey({ ...RECORD, ...change }, [], view).isActive;
    expect(isActive({})).toBe(true);
    expect(isActive({ expiresAt: view.now })).toBe(false);
    expect(isActive({ expiresAt: view.now + 1 })).toBe(true);
    expect(isActive({ notBefore: view.now + 1 })).toBe(false);
    expect(isActive({ state: { kind: 'suspended', at: 1, reason: null } })).toBe(false);
  });

  test('a rotation is due when the current version is as old as the policy says', () => {
    const rotationOf = (rotation: KeyRecord['rotation'], now = 5_000) =>
      toApiKey({ ...RECORD, rotation }, [], { ...view, now }).rotation;
    expect(rotationOf(null)).toBeUndefined();
    expect(rotationOf({ everySeconds: null, overlapSeconds: 3_600, ...CLAIMED_IN_A_WEEK })).toEqual({ overlap: '1h' });
    expect(rotationOf({ everySeconds: 86_400, overlapSeconds: 3_600, ...CLAIMED_IN_A_WEEK })).toEqual({
      every: '1d',
      overlap: '1h',
      window: '7d',
      onMissed: 'extend',
      dueAt: new Date(5_000 + 86_400_000),
      state: 'scheduled',
    });
    const daily = { everySeconds: 86_400, overlapSeconds: 3_600, ...CLAIMED_IN_A_WEEK };
    expect(rotationOf(daily, 5_000 + 2 * 86_400_000)).toMatchObject({
      state: 'due',
      claimBefore: new Date(5_000 + 8 * 86_400_000),
    });
  });

  test('a version shows its state and its use', () => {
    const [current, older] = RECORD.versions;
    if (current === undefined || older === undefined) throw new Error('two versions');
    expect(toApiKeyVersion(current, undefined, 6_000)).toEqual({
      version: 2,
      state: 'current',
      createdAt: new Date(5_000),
      usageCount: 0,
      lastAddresses: [],
    });
    const usage = { version: 1, usageCount: 2, lastUsedAt: 8_000, lastAddresses: ['10.0.0.1'] };
    expect(toApiKeyVersion(older, usage, 6_000)).toMatchObject({ state: 'accepted', lastUsedAt: new Date(8_000) });
    expect(toApiKeyVersion(older, usage, 9_000)).toMatchObject({ state: 'retired', acceptedUntil: new Date(9_000) });
  });
});
