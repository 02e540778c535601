import { expect, test } from 'vitest';
import { refusalOf } from '../../../test/refusal-of.ts';
import { openTestEngine } from '../../../test/test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

test('the number of unrevoked keys of a tenant is bounded; other tenants are not affected, and revoking makes room', async () => {
  await using engine = await openTestEngine({ keysPerTenantMax: 3 });
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const [first] = [await auth.keys.create(INPUT), await auth.keys.create(INPUT), await auth.keys.create(INPUT)];
  const refused = await refusalOf(auth.keys.create(INPUT));
  expect(refused).toMatchObject({ code: 'too_many_keys' });
  expect(String(refused)).toContain('at most 3 keys');
  expect((await auth.keys.list()).items).toHaveLength(3);
  expect(await auth.tenant('acme').keys.create(INPUT)).toMatchObject({ apiKey: { state: 'active' } });
  // Whatever else becomes of a key, it is one; what is revoked twice is revoked once.
  await auth.rotation.rotate(first.apiKey.id);
  await auth.keys.suspend(first.apiKey.id);
  expect((await refusalOf(auth.keys.create(INPUT))).code).toBe('too_many_keys');
  await Promise.all([auth.keys.revoke(first.apiKey.id), auth.keys.revoke(first.apiKey.id)]);
  await auth.keys.revoke(first.apiKey.id);
  await auth.keys.create(INPUT);
  expect((await refusalOf(auth.keys.create(INPUT))).code).toBe('too_many_keys');
});

test('of many keys that are created at once on two nodes, exactly as many are created as there is room for', async () => {
  await using engine = await openTestEngine({ keysPerTenantMax: 10 });
  const other = await engine.openAgain();
  const attempts = Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? engine.auth : other).keys.create(INPUT));
  const outcomes = await Promise.allSettled(attempts);
  const codes = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []));
  expect([...new Set(codes)]).toEqual(['too_many_keys']);
  expect(codes).toHaveLength(30);
  expect(await engine.sql(`select keys from key_counts where tenant_id = 'default'`)).toEqual([{ keys: 10 }]);
});

test('a failed commit changes no count, and one that creates and ends keys of several tenants changes each', async () => {
  await using engine = await openTestEngine({ keysPerTenantMax: 2 });
  const { auth } = engine;
  const counts = () => engine.sql('select tenant_id, keys from key_counts order by tenant_id');
  const { key, apiKey } = await auth.keys.create(INPUT);
  // Under the same idempotency key there is one answer, and one key.
  const again = { idempotencyKey: 'same' };
  await Promise.all([auth.keys.create(INPUT, again), auth.keys.create(INPUT, again)]);
  await auth.tenants.create({ id: 'acme' });
  await auth.tenant('acme').keys.create(INPUT);
  const twoAndOne = [
    { tenant_id: 'acme', keys: 1 },
    { tenant_id: 'default', keys: 2 },
  ];
  expect(await counts()).toEqual(twoAndOne);
  expect((await refusalOf(auth.keys.create(INPUT))).code).toBe('too_many_keys');
  expect(await counts()).toEqual(twoAndOne);
  // Where there are more than may be, as after the maximum was lowered, ending one is possible all the same.
  const strict = await engine.openAgain({ keysPerTenantMax: 1 });
  await strict.keys.revoke(apiKey.id);
  expect(await counts()).toMatchObject([{ keys: 1 }, { keys: 1 }]);
  expect((await refusalOf(strict.keys.create(INPUT))).code).toBe('too_many_keys');
  expect(await strict.verify({ key })).toMatchObject({ valid: false });
});
