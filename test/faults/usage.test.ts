/** Usage over real processes: what three nodes count adds up to what they answered, also across an outage of PostgreSQL. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWithOwnServers } from '../../tools/servers/scratch.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { availability, printFigures } from './figures.ts';
import type { Operation } from './history.ts';
import { inParallel, prepareKeys, sleep, verifyInBackground } from './load.ts';
import { faultSeed, Prng } from './prng.ts';
import { ROUNDS } from './scale.ts';

const START_MAX_MS = 120_000;
const TEST_MAX_MS = 60_000 + ROUNDS * 30_000;
/** Every node stores what it counted within a second or two, and again after a failure. */
const STORED_MAX_MS = 15_000;
const LOOK_AGAIN_MS = 250;
const MEBIBYTE = 1_048_576;
/** What a node may grow by in an outage of seconds: its buffers are bounded far below, and a heap breathes. */
const GROWTH_MAX_BYTES = 96 * MEBIBYTE;

type Counts = Readonly<Record<string, number>>;

describeWithOwnServers('usage over three nodes', () => {
  const seed = faultSeed();
  let cluster: Cluster;

  beforeAll(async () => {
    process.stdout.write(`\nseed: ${seed}\n`);
    cluster = await openCluster();
  }, START_MAX_MS);
  afterAll(() => cluster?.close(), START_MAX_MS);

  test('every answered verification is counted once, also when PostgreSQL was away', {
    timeout: TEST_MAX_MS,
  }, async () => {
    const { client, nodes, history, stores } = cluster;
    const prng = new Prng(seed);
    const load = { client, nodes, prng };
    const keys = await prepareKeys(load, 60);
    const mark = history.mark();
    for (const key of keys.slice(0, 10)) await client.revoke(prng.pick(nodes), key);
    const verifying = verifyInBackground(load, keys, { workers: 6, perSecond: 400 });
    const before = nodes.map((node) => node.memoryBytes());
    let grownBytes = 0;
    const measure = () => {
      for (const [index, node] of nodes.entries())
        grownBytes = Math.max(grownBytes, node.memoryBytes() - (before[index] ?? 0));
    };
    for (let round = 0; round < ROUNDS; round += 1) {
      await sleep(2_500);
      await stores.postgres.pause();
      await sleep(2_500);
      measure();
      stores.postgres.resume();
      await sleep(1_500);
      await stores.postgres.kill();
      await sleep(1_500);
      measure();
      await stores.postgres.restart();
      await sleep(2_000);
    }
    await verifying.end();

    const operations = history.since(mark).filter(({ op }) => op === 'verify');
    const answered = new Map(keys.map(({ id }) => [id, countsOf(operations.filter(({ keyId }) => keyId === id))]));
    const told = await whenStored(answered);
    const sum = (all: ReadonlyMap<string, Counts>) =>
      [...all.values()].flatMap(Object.values).reduce((a, b) => a + b, 0);
    printFigures('usage over three nodes, PostgreSQL stopped and killed', [
      `answered: ${sum(answered)}; counted: ${sum(told)}; difference: ${sum(told) - sum(answered)}`,
      `answered at all: ${availability(operations, ['verify'])}`,
      `memory of a node grew by at most ${(grownBytes / MEBIBYTE).toFixed(1)} MiB`,
      `seed: ${seed}`,
    ]);
    expect(operations.filter(({ outcome }) => outcome.kind === 'unknown')).toEqual([]);
    expect(operations.some(({ outcome }) => outcome.kind === 'unavailable')).toBe(true);
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(answered));
    expect(grownBytes).toBeLessThan(GROWTH_MAX_BYTES);
  });

  /** What the service tells of every key, once it is what was answered, or when waiting longer is of no use. */
  async function whenStored(answered: ReadonlyMap<string, Counts>): Promise<ReadonlyMap<string, Counts>> {
    const endsAtMs = performance.now() + STORED_MAX_MS;
    for (;;) {
      const told = new Map<string, Counts>();
      const ids = [...answered.keys()];
      await inParallel(8, ids.length, async (index) => {
        const id = ids[index] ?? '';
        const node = cluster.nodes[index % cluster.nodes.length];
        if (node !== undefined) told.set(id, await cluster.client.usage(node, id));
      });
      const isAll = ids.every(
        (id) => JSON.stringify(sorted(told.get(id))) === JSON.stringify(sorted(answered.get(id))),
      );
      if (isAll || performance.now() > endsAtMs) return new Map(ids.map((id) => [id, told.get(id) ?? {}]));
      await sleep(LOOK_AGAIN_MS);
    }
  }
});

/** By outcome, as the service names them. */
function countsOf(operations: readonly Operation[]): Counts {
  const counts: Record<string, number> = {};
  for (const { outcome } of operations) {
    const name = outcome.kind === 'yes' ? 'valid' : outcome.kind === 'no' ? outcome.code : null;
    if (name !== null) counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function sorted(counts: Counts | undefined): readonly (readonly [string, number])[] {
  return Object.entries(counts ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
