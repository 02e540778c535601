import { describe, expect, test } from 'vitest';
import { DAY_MS, type Instant } from '../foundation/clock.ts';
import {
  ADMINISTRATOR_LASTS_MS,
  isUsableAdministrator,
  losesAdminRights,
  mayBeLastAdministrator,
} from './administrator.ts';
import { PROCESS_ACTOR } from './event.ts';
import { createKey, type KeyRecord, type KeySettings } from './key.ts';

const NOW: Instant = Date.UTC(2030, 0, 1);
const SETTINGS: KeySettings = {
  ...{ userId: 'u', name: 'n', description: null, environment: 'live', permissions: ['pantheon:*'], grantable: [] },
  ...{ notBefore: null, expiresAt: null, rateLimits: [], quota: null, ipAllowlist: [], rotation: null, jwt: null },
  metadata: null,
};
const BY = { actor: PROCESS_ACTOR, requestId: null, reason: null };
const key = { id: '0123456789abcdef', tenantId: 'system', createdBy: null, settings: SETTINGS, idTag: 1 };
const ROOT: KeyRecord = createKey(key, BY, NOW).record;

const limit = (uses: number, windowSeconds: number) => ({ rateLimits: [{ name: 'a', limit: uses, windowSeconds }] });

describe('the remaining administrator must be usable from anywhere, now and tomorrow', () => {
  test.each([
    ['as it was made', {}, true],
    ['beginning now', { notBefore: NOW }, true],
    ['with a limit that an administrator does not reach', limit(1, 60), true],
    ['lasting for more than a day', { expiresAt: NOW + ADMINISTRATOR_LASTS_MS + 1 }, true],
    ['of another tenant', { tenantId: 'default' }, false],
    ['of the test environment', { environment: 'test' }, false],
    ['that may not do everything', { permissions: ['pantheon:keys:*'] }, false],
    ['suspended', { state: { kind: 'suspended', at: NOW, reason: null } }, false],
    ['revoked', { state: { kind: 'revoked', at: NOW, reason: null } }, false],
    ['expired', { expiresAt: NOW }, false],
    ['expiring in two seconds', { expiresAt: NOW + 2_000 }, false],
    ['expiring within a day', { expiresAt: NOW + DAY_MS }, false],
    ['not yet active', { notBefore: NOW + 1 }, false],
    ['bound to addresses', { ipAllowlist: ['10.0.0.0/8'] }, false],
    ['with a quota', { quota: { limit: 1_000, period: 'day' } }, false],
    ['with next to no uses', limit(1, 61), false],
  ] as const)('a key %s', (_what, over, isUsable) => {
    expect(isUsableAdministrator({ ...ROOT, ...over } as KeyRecord, NOW)).toBe(isUsable);
  });
});

test.each([
  ['as it was made', {}, true],
  ['bound to addresses', { ipAllowlist: ['10.0.0.0/8'] }, true],
  ['expiring in two seconds', { expiresAt: NOW + 2_000 }, true],
  ['expired', { expiresAt: NOW }, false],
  ['of the test environment', { environment: 'test' }, false],
  ['of another tenant', { tenantId: 'default' }, false],
] as const)('whether every administrator could be lost by the end of a key %s', (_what, over, expected) => {
  expect(mayBeLastAdministrator({ ...ROOT, ...over } as KeyRecord, NOW)).toBe(expected);
});

test.each([
  ['renamed', {}, { name: 'other' }, false],
  ['narrowed', {}, { permissions: [] }, true],
  ['given an end', {}, { expiresAt: NOW + 365 * DAY_MS }, true],
  ['bound to an address', {}, { ipAllowlist: ['10.0.0.1'] }, true],
  ['given a quota', {}, { quota: { limit: 1, period: 'month' } }, true],
  ['limited to next to nothing', {}, limit(1, 3_600), true],
  ['limited within reason', {}, limit(100, 60), false],
  ['renamed, being bound already', { ipAllowlist: ['10.0.0.1'] }, { name: 'other' }, false],
  ['narrowed, being bound already', { ipAllowlist: ['10.0.0.1'] }, { permissions: [] }, true],
  ['narrowed, being of the test environment', { environment: 'test' }, { permissions: [] }, false],
] as const)('an administrator that is %s', (_what, was, change, ends) => {
  const record = { ...ROOT, ...was } as KeyRecord;
  expect(losesAdminRights(record, { ...record, ...change } as KeySettings, NOW)).toBe(ends);
});
