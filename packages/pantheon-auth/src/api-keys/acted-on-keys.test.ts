import { expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import { ActedOnKeys, type Cascading } from './acted-on-keys.ts';
import type { KeyActs } from './key-acts.ts';
import type { KeyChanges } from './key-changes.ts';

/** What loading each key does: its state, or an error. */
function over(keys: Readonly<Record<string, 'active' | 'revoked' | Error>>, isComplete = true) {
  const touched = Object.keys(keys).map((keyId) => {
    return { keyId, tenantId: 'default', did: new Set(['rotated']), tokenIssued: null };
  });
  const acts = { of: async () => ({ keys: touched, isComplete }) } as unknown as KeyActs;
  const changes = {
    load: async (_tenantId: string, keyId: string) => {
      const found = keys[keyId];
      if (found instanceof Error) throw found;
      return { record: { state: { kind: found } } };
    },
  } as unknown as KeyChanges;
  const call = {
    ...{ keyId: 'stolen', reader: {}, isTaking: false, gone: new Set() },
    ...{ isOver: () => false, isWithin: () => true, revoke: async () => true, revokeTokens: async () => true },
  } as unknown as Cascading;
  return { actedOn: new ActedOnKeys({ changes, acts, clock: new TestClock() }), call };
}

test('a damaged key counts as active, a missing one does not, and an outage is an error', async () => {
  const { actedOn, call } = over({
    sound: 'active',
    ended: 'revoked',
    damaged: new PantheonError('key_quarantined'),
    ofDamagedTenant: new PantheonError('tenant_quarantined'),
    gone: new PantheonError('not_found'),
  });
  const { items, complete } = await actedOn.of(call);
  expect(items.map(({ keyId }) => keyId)).toEqual(['sound', 'damaged', 'ofDamagedTenant']);
  expect(complete).toBe(true);
  for (const error of [new PantheonError('store_unavailable'), new Error('other')]) {
    const away = over({ a: error });
    await expect(away.actedOn.of(away.call)).rejects.toBe(error);
  }
});

test('a list that was not searched to the end is not reported as complete', async () => {
  const partly = over({ a: 'active' }, false);
  expect(await partly.actedOn.of(partly.call)).toMatchObject({ items: [{ keyId: 'a' }], complete: false });
  const late = over({ a: 'active' });
  expect(await late.actedOn.of({ ...late.call, isOver: () => true })).toEqual({ items: [], complete: false });
  const many = over(Object.fromEntries(Array.from({ length: 1_000 }, (_, nth) => [`k${nth}`, 'active' as const])));
  const { items, complete } = await many.actedOn.of(many.call);
  expect(complete).toBe(false);
  expect(items.length).toBeLessThan(1_000);
  // Each look finds a key alive that was said to be revoked: it ends.
  const endless = over({ a: 'active' });
  expect(await endless.actedOn.of({ ...endless.call, isTaking: true })).toMatchObject({ complete: false });
});
