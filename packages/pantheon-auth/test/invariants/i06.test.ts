import { expect, test } from 'vitest';
import { ANY_TENANT } from '../../src/domain/tenant.ts';
import { refusalOf } from '../refusal-of.ts';
import { openTestEngine } from '../test-engine.ts';

test('I6: no call makes a revoked key valid again, nor does a restart', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const input = { userId: 'u', name: 'n', permissions: ['docs:read'], rotation: { overlap: '1h' } };
  const { key, apiKey } = await auth.keys.create(input, { idempotencyKey: 'once' });
  const { id } = apiKey;
  const revoked = await auth.keys.revoke(id, { reason: 'leaked' });
  expect(revoked).toMatchObject({ state: 'revoked', stateReason: 'leaked', isActive: false });

  const attempts = {
    resume: () => auth.keys.resume(id),
    suspend: () => auth.keys.suspend(id),
    update: () => auth.keys.update(id, { name: 'other' }),
    rotate: () => auth.rotation.rotate(id),
    'rotate knowing the version': () => auth.rotation.rotate(id, { expectedVersion: 1 }),
  };
  for (const [name, attempt] of Object.entries(attempts))
    expect((await refusalOf(attempt)).code, name).toBe('key_revoked');
  expect((await refusalOf(auth.keys.create(input, { idempotencyKey: 'once' }))).code).toBe('already_claimed');
  await auth.tokens.revokeAllOf({ tenantId: 'default', keyId: id });
  await auth.tenants.suspend('default');
  await auth.tenants.resume('default');
  await auth.keys.revoke(id, { reason: 'again' });

  const again = await engine.openAgain();
  for (const one of [auth, again]) {
    expect(await one.keys.get(id)).toMatchObject({ state: 'revoked', stateReason: 'leaked' });
    expect(await one.verify({ key })).toMatchObject({
      valid: false,
      denial: { code: 'revoked' },
      secretVerified: true,
    });
  }
});

test('I6: a deleted tenant stays deleted, and its id is not used again', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const { key } = await auth.tenant('acme').keys.create({ userId: 'u', name: 'n' });
  expect(await auth.verify({ key, tenant: 'acme' })).toMatchObject({ valid: true });
  await auth.tenants.delete('acme');
  expect((await refusalOf(auth.tenants.resume('acme'))).code).toBe('not_found');
  expect((await refusalOf(auth.tenants.create({ id: 'acme' }))).code).toBe('already_exists');
  expect((await refusalOf(auth.tenant('acme').keys.create({ userId: 'u', name: 'n' }))).code).toBe('not_found');
  for (const tenant of ['acme', ANY_TENANT] as const)
    expect(await auth.verify({ key, tenant })).toMatchObject({
      valid: false,
      denial: { code: 'unknown' },
      secretVerified: false,
    });
});
