/** Several nodes that start at once: whoever comes first makes what all of them need, once. */
import { expect, test } from 'vitest';
import { systemClock } from '../src/foundation/clock.ts';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { postgresNode } from './postgres-node.ts';
import { scratchPostgres } from './postgres-scratch.ts';
import { refusalOf } from './refusal-of.ts';

const NODES = 4;

test('nodes that start at once on an empty database share tenants, signing keys, data keys, the secret that tags ids and the canary', async () => {
  await using scratch = await scratchPostgres('empty');
  const options = { ...postgresNode(scratch.url), clock: systemClock };
  const nodes = await Promise.all(Array.from({ length: NODES }, () => createPantheonAuth(options)));
  const [first] = nodes;
  if (first === undefined) throw new Error('no node');
  try {
    expect(await scratch.sql('select id from tenants order by id')).toEqual([{ id: 'default' }, { id: 'system' }]);
    const active = await scratch.sql(
      'select tenant_id, count(*) as n from data_keys where retired_at is null group by 1',
    );
    for (const { n } of active) expect(n).toBe(1);
    expect(await scratch.sql(`select name from meta where name = 'canary'`)).toHaveLength(1);
    const algorithms = await scratch.sql('select algorithm, count(*) as n from signing_keys group by 1 order by 1');
    expect(algorithms.map(({ algorithm }) => algorithm)).toEqual(['ES256', 'Ed25519', 'RS256']);
    const events = await scratch.sql(`select type, count(*) as n from events group by 1 order by 1`);
    const made = algorithms.reduce((sum, { n }) => sum + Number(n), 0);
    expect(await scratch.sql('select number from id_tag_secrets')).toEqual([{ number: 1 }]);
    expect(events).toEqual([
      { type: 'id_tag_secret.added', n: 1 },
      { type: 'signing_key.created', n: made },
      { type: 'tenant.created', n: 2 },
    ]);
    // A token of any node is a token of every node, and so is a key.
    const { key } = await first.keys.create({ userId: 'u', name: 'n' });
    for (const node of nodes) {
      const { key: made } = await node.keys.create({ userId: 'u', name: 'n' });
      for (const other of nodes) expect(await other.verify({ key: made })).toMatchObject({ valid: true });
    }
    for (const signing of nodes) {
      const exchange = await signing.tokens.exchange({ key });
      if (!exchange.issued) throw new Error('not issued');
      for (const verifying of nodes)
        expect(await verifying.tokens.verify({ token: exchange.token.token })).toMatchObject({ valid: true });
    }
  } finally {
    await Promise.all(nodes.map((node) => node.close()));
  }
});

test('of several nodes that create the root key at once one does, and the others find it', async () => {
  await using scratch = await scratchPostgres('started');
  const options = postgresNode(scratch.url);
  const nodes = await Promise.all(
    Array.from({ length: NODES }, () => createPantheonAuth({ ...options, clock: systemClock })),
  );
  try {
    // All of them were handed the same string, as from a file.
    const root = nodes[0]?.generator.generateKey().key ?? '';
    const store = { read: () => root, write: () => {} };
    const made = await Promise.all(nodes.map((node) => node.bootstrap(store)));
    expect(made.filter((key) => key !== null)).toHaveLength(1);
    expect(await scratch.sql(`select tenant_id from api_keys`)).toEqual([{ tenant_id: 'system' }]);
    for (const node of nodes) expect(await node.verify({ key: root, tenant: 'system' })).toMatchObject({ valid: true });
  } finally {
    await Promise.all(nodes.map((node) => node.close()));
  }
});

test('a node with another master key is refused, and changes nothing', async () => {
  await using scratch = await scratchPostgres('started');
  const before = await scratch.stored();
  const options = { ...postgresNode(scratch.url), masterKey: 'fedcba9876543210'.repeat(4) };
  expect(await refusalOf(createPantheonAuth(options))).toMatchObject({ code: 'master_key_mismatch' });
  expect(await scratch.stored()).toBe(before);
});
