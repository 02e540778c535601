/** Exact limits over real processes and sockets: three nodes, one key, and a Redis that is flushed, killed and replaced. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWithOwnServers } from '../../tools/servers/scratch.ts';
import { admissions, mostAdmittedInAnyWindow } from './check-admissions.ts';
import type { KeyBody, TestKey } from './client.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { availability, printFigures } from './figures.ts';
import { askDuring, inParallel, type LimitedAnswer, type Load, sleep } from './load.ts';
import type { ServiceNode } from './nodes.ts';
import { faultSeed, Prng } from './prng.ts';
import { ROUNDS } from './scale.ts';

const START_MAX_MS = 120_000;
const TEST_MAX_MS = 60_000 + ROUNDS * 30_000;
const WINDOW_MS = 2_000;
const SHORT = { name: 'short', limit: 60, window: '2s' } as const;
/**
 * In a window in which Redis goes away: all that it admitted, were it at one node, and the shares of the others. What a node
 * has admitted counts against its share.
 */
const OUTAGE_MAX = SHORT.limit + 2 * (SHORT.limit / 3);
/** Redis follows as it can: what was counted this long before a primary ended may not have reached the one after it. */
const REPLICATION_LAG_MS = 50;

describeWithOwnServers('limits over three nodes', () => {
  const seed = faultSeed();
  let cluster: Cluster;
  let load: Load;

  beforeAll(async () => {
    process.stdout.write(`\nseed: ${seed}\n`);
    cluster = await openCluster();
    load = { client: cluster.client, nodes: cluster.nodes, prng: new Prng(seed) };
  }, START_MAX_MS);
  afterAll(() => cluster?.close(), START_MAX_MS);

  function nodeAt(index: number): ServiceNode {
    const node = cluster.nodes[index % cluster.nodes.length];
    if (node === undefined) throw new Error('There are no nodes.');
    return node;
  }

  async function limited(body: KeyBody): Promise<TestKey> {
    const key = await load.client.create(load.prng.pick(load.nodes), 'limited', body);
    if (key === null) throw new Error('The key was not made.');
    return key;
  }

  test('of 1,000 requests at once exactly as many as the limit are admitted', { timeout: TEST_MAX_MS }, async () => {
    const limit = 100;
    // Code that has never run is slow, and no node of a service is asked a thousand times in its first second.
    const warm = await limited({ rateLimits: [{ name: 'any', limit: 1_000_000, window: '1h' }] });
    await inParallel(30, 600, async (index) => void (await load.client.verify(nodeAt(index), warm)));
    const rounds: LimitedAnswer[][] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const key = await limited({ rateLimits: [{ name: 'hour', limit, window: '1h' }] });
      const order = load.prng.shuffled(Array.from({ length: 1_000 }, (_, index) => index));
      rounds.push(await Promise.all(order.map((index) => load.client.verify(nodeAt(index), key))));
    }
    const admitted = rounds.map((answers) => admissions(answers).length);
    printFigures('limits: 1,000 at once against a limit of 100 on three nodes', [
      `admitted: ${admitted.join(', ')}`,
      `over-admission: ${Math.max(0, ...admitted) - limit}`,
      `answered: ${availability(rounds.flat(), ['verify'])}`,
      `seed: ${seed}`,
    ]);
    for (const answers of rounds) {
      expect(tally(answers)).toEqual({ yes: limit, rate_limited: answers.length - limit });
    }
  });

  test('no more than the limit is admitted in any window, across their boundaries', {
    timeout: TEST_MAX_MS,
  }, async () => {
    const key = await limited({ rateLimits: [SHORT] });
    const answers = await askDuring(load, key, { workers: 6, perSecond: 200 }, () => sleep(4 * WINDOW_MS * ROUNDS));
    const most = mostAdmittedInAnyWindow(answers, WINDOW_MS);
    const { length } = admissions(answers);
    printFigures('limits: windows of 2 s, a limit of 60', [
      `admitted: ${length} of ${answers.length}; in the fullest window: ${most}`,
      `over-admission: ${Math.max(0, most - SHORT.limit)}`,
      `seed: ${seed}`,
    ]);
    expect(most).toBeLessThanOrEqual(SHORT.limit);
    // What is admitted too late by a 60th of the window each time is still most of what may be.
    expect(length).toBeGreaterThanOrEqual(3 * SHORT.limit * ROUNDS);
  });

  test('while Redis is flushed, killed and replaced, what nodes admit alone is bounded and marked', {
    timeout: TEST_MAX_MS,
  }, async () => {
    const { stores } = cluster;
    const key = await limited({ rateLimits: [SHORT] });
    const endedAtMs: number[] = [];
    const answers = await askDuring(load, key, { workers: 6, perSecond: 200 }, async () => {
      for (let round = 0; round < ROUNDS; round += 1) {
        await sleep(1_000);
        await stores.redis.command('FLUSHALL');
        await sleep(1.5 * WINDOW_MS);
        await stores.redis.kill();
        await sleep(1_500);
        await stores.redis.restart();
        await sleep(1.5 * WINDOW_MS);
        await stores.failRedisOver(async () => {
          endedAtMs.push(performance.now());
          await sleep(300);
        });
        await sleep(1.5 * WINDOW_MS);
      }
    });
    const together = admissions(answers.filter(({ degraded }) => !degraded));
    const alone = admissions(answers.filter(({ degraded }) => degraded));
    const most = mostAdmittedInAnyWindow(together, WINDOW_MS);
    const mostAlone = mostAdmittedInAnyWindow(alone, WINDOW_MS);
    const mostOfAll = mostAdmittedInAnyWindow(answers, WINDOW_MS);
    const mayBeLost = Math.max(0, ...endedAtMs.map((at) => countBetween(together, at - REPLICATION_LAG_MS, at)));
    printFigures('limits: windows of 2 s, a limit of 60, Redis flushed, killed, failed over', [
      `counted together: ${together.length}; in the fullest window: ${most}`,
      `counted alone (degraded): ${alone.length}; in the fullest window: ${mostAlone}`,
      `both: in the fullest window ${mostOfAll}, at most ${OUTAGE_MAX}`,
      `over-admission: ${Math.max(0, most - SHORT.limit)} (at most ${mayBeLost} may be lost by the failover)`,
      `answered: ${availability(answers, ['verify'])}`,
      `seed: ${seed}`,
    ]);
    expect(most).toBeLessThanOrEqual(SHORT.limit + mayBeLost);
    // The shares of all nodes together are the limit.
    expect(mostAlone).toBeLessThanOrEqual(SHORT.limit);
    expect(mostOfAll).toBeLessThanOrEqual(OUTAGE_MAX + mayBeLost);
    expect(alone.length).toBeGreaterThan(0);
    expect(together.length).toBeGreaterThan(SHORT.limit);
  });

  test('no more than the quota is admitted, whatever data Redis loses and whichever nodes die', {
    timeout: TEST_MAX_MS,
  }, async () => {
    const { stores, nodes } = cluster;
    const limit = 300;
    const key = await limited({ quota: { limit, period: 'month' } });
    const victim = load.prng.pick(nodes);
    const answers = await askDuring(load, key, { workers: 6, perSecond: 200 }, async () => {
      await sleep(500);
      await stores.redis.command('FLUSHALL');
      await sleep(500);
      await victim.kill();
      await victim.start();
      await sleep(2_000);
    });
    const admitted = admissions(answers).length;
    printFigures('quota of 300 over three nodes, Redis flushed, one node killed', [
      `admitted: ${admitted} of ${answers.length}`,
      `over-admission: ${Math.max(0, admitted - limit)}`,
      `answered: ${availability(answers, ['verify'])}`,
      `seed: ${seed}`,
    ]);
    expect(admitted).toBeLessThanOrEqual(limit);
    // What the killed node had reserved and not spent is lost, and nothing else.
    expect(admitted).toBeGreaterThanOrEqual(limit / 2);
    expect(answers.some(({ outcome }) => outcome.kind === 'no' && outcome.code === 'quota_exceeded')).toBe(true);
  });
});

/** How often each answer was given; apart where the node counted for itself. */
function tally(answers: readonly LimitedAnswer[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { outcome, degraded } of answers) {
    const kind = `${'code' in outcome ? outcome.code : outcome.kind}${degraded ? ' (degraded)' : ''}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Answers that came between two moments. */
function countBetween(answers: ReturnType<typeof admissions>, fromMs: number, toMs: number): number {
  return answers.filter(({ returnedAtMs }) => returnedAtMs >= fromMs && returnedAtMs <= toMs).length;
}
