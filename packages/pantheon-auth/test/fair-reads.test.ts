/** Reads of one tenant, by the thousand, and what they leave to the others. */
import { expect, test } from 'vitest';
import { callerFor } from './callers.ts';
import { openTestEngine } from './test-engine.ts';

/** More than may wait anywhere: in the line of reads, for a connection of the pool, for the thread that reads. */
const MANY = 1_500;
const INPUT = { userId: 'u', name: 'n' };

test.each(['getSelf', 'get', 'versions', 'exchange'] as const)(
  'one key that requests %s by the thousand delays no cold key, revocation, rotation or new key of another tenant',
  async (what) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'victim' });
    const victim = auth.tenant('victim');
    const [cold, leaked, rotated] = [
      await victim.keys.create(INPUT),
      await victim.keys.create(INPUT),
      await victim.keys.create(INPUT),
    ];
    const { apiKey, key } = await auth.keys.create({ ...INPUT, permissions: ['pantheon:keys:read'] });
    const by = await callerFor(auth, key);
    // Knows none of the keys of the other tenant yet.
    const node = await engine.openAgain();
    const ask = {
      getSelf: () => node.keys.getSelf(by),
      get: () => node.keys.get(apiKey.id, { by }),
      versions: () => node.keys.versions(apiKey.id, { by }),
      exchange: () => node.tokens.exchange({ key, ip: '192.0.2.1' }),
    }[what];
    const flood = Promise.allSettled(Array.from({ length: MANY }, (): Promise<unknown> => ask()));
    const elsewhere = node.tenant('victim');
    const [verified, revoked, turned, made] = await Promise.all([
      node.verify({ key: cold.key, tenant: 'victim' }),
      elsewhere.keys.revoke(leaked.apiKey.id),
      elsewhere.rotation.rotate(rotated.apiKey.id),
      elsewhere.keys.create(INPUT),
    ]);
    expect([verified.valid, revoked.state, turned.apiKey.version, made.apiKey.state]).toEqual([
      true,
      'revoked',
      2,
      'active',
    ]);
    const codes = new Set((await flood).map((one) => (one.status === 'rejected' ? one.reason.code : 'answered')));
    // Who asks for too many is told so, and is answered what had a place in the line.
    expect([...codes].toSorted()).toEqual(['answered', 'overloaded']);
  },
  60_000,
);

test('an administrator that names a tenant by the thousand reads it once, and gets 404 when it was deleted', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const { key } = await auth.tenant('system').keys.create({ ...INPUT, permissions: ['pantheon:tenants:*'] });
  const by = await callerFor(auth, key);
  const node = await engine.openAgain();
  const asked = (): Promise<void>[] => Array.from({ length: MANY }, () => node.tenants.assertThere('acme', by));
  // At the first request too, when this node does not know any tenant.
  await Promise.all(asked());
  await auth.tenants.delete('acme');
  await expect(auth.tenants.assertThere('acme', by)).rejects.toMatchObject({ code: 'not_found' });
  await engine.propagate();
  await expect(node.tenants.assertThere('acme', by)).rejects.toMatchObject({ code: 'not_found' });
});
