/**
 * Revoked means revoked, over real processes and sockets: three nodes under load while keys are revoked at nodes of chance,
 * without faults, with every notification lost, and with everything failing that can fail.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWithOwnServers } from '../../tools/servers/scratch.ts';
import { BOUNDS_DEFAULT, type Violation } from './check-history.ts';
import type { TestKey } from './client.ts';
import { type Cluster, judge, openCluster } from './cluster.ts';
import { delayLine, lastYesLine, printFigures, revocationDelays, verdictLines } from './figures.ts';
import { liveInBackground, prepareKeys, revokeAll, verifyInBackground } from './load.ts';
import { planFaults, runFaults } from './nemesis.ts';
import { faultSeed, Prng } from './prng.ts';
import { ROUNDS } from './scale.ts';

const START_MAX_MS = 120_000;
const TEST_MAX_MS = 120_000 + ROUNDS * 60_000;

describeWithOwnServers('revocation over three nodes', () => {
  const seed = faultSeed();
  let cluster: Cluster;

  beforeAll(async () => {
    process.stdout.write(`\nseed: ${seed}\n`);
    cluster = await openCluster();
  }, START_MAX_MS);
  afterAll(() => cluster?.close(), START_MAX_MS);

  /** Revokes all keys under load, beside `meanwhile`, and judges what the clients saw. */
  async function revokeUnderLoad(
    title: string,
    plan: {
      readonly keys: number;
      readonly workers: number;
      readonly pauseMs?: number;
      readonly settleEvery: number;
      readonly meanwhile?: () => Promise<readonly string[]>;
    },
  ): Promise<{ readonly violations: readonly Violation[]; readonly lastYesMaxMs: number; readonly revoked: number }> {
    const { client, nodes, history } = cluster;
    const prng = new Prng(seed).fork(title);
    const load = { client, nodes, prng };
    const mark = history.mark();
    const keys: readonly TestKey[] = await prepareKeys(load, plan.keys);
    const background = [
      verifyInBackground(load, keys, { workers: 4, perSecond: 300 }),
      liveInBackground(load, { workers: 2, pauseMs: 100 }),
    ];
    const [done] = await Promise.all([plan.meanwhile?.() ?? [], revokeAll(load, keys, plan)]);
    for (const work of background) await work.end();
    const violations = await judge(cluster, mark, { prng, keys });

    const operations = history.since(mark);
    const delays = revocationDelays(operations, keys);
    const delay = plan.meanwhile === undefined ? delayLine(delays) : lastYesLine(delays);
    const lines = [delay, ...verdictLines(operations, violations), `seed: ${seed}`];
    printFigures(title, [...done, ...lines, ...violations.slice(0, 20).map(describeViolation)]);
    const revoked = operations.filter(({ op, outcome }) => op === 'revoke' && outcome.kind === 'done').length;
    return { violations, lastYesMaxMs: delays.untilLastYes.max, revoked };
  }

  test('1,000 revocations: no stale acceptance, no wrong denial, nothing lost', { timeout: TEST_MAX_MS }, async () => {
    const keys = 1_000 * ROUNDS;
    const seen = await revokeUnderLoad('revocations', { keys, workers: 6, settleEvery: 50 });
    expect(seen.violations).toEqual([]);
    expect(seen.lastYesMaxMs).toBeLessThanOrEqual(BOUNDS_DEFAULT.boundMs + BOUNDS_DEFAULT.slackMs);
    expect(seen.revoked).toBeGreaterThanOrEqual(keys);
  });

  test('the same with every notification dropped', { timeout: TEST_MAX_MS }, async () => {
    const keys = 300 * ROUNDS;
    const before = cluster.stores.droppedNotifications;
    cluster.stores.dropNotifications(true);
    const seen = await revokeUnderLoad('revocations without notifications', { keys, workers: 6, settleEvery: 50 });
    cluster.stores.dropNotifications(false);
    expect(seen.violations).toEqual([]);
    expect(seen.lastYesMaxMs).toBeLessThanOrEqual(BOUNDS_DEFAULT.boundMs + BOUNDS_DEFAULT.slackMs);
    expect(seen.revoked).toBeGreaterThanOrEqual(keys);
    // Every commit tells every node.
    expect(cluster.stores.droppedNotifications - before).toBeGreaterThanOrEqual(keys);
  });

  test('the same while all parts fail in turn', { timeout: TEST_MAX_MS }, async () => {
    const { nodes, stores } = cluster;
    const faults = planFaults(new Prng(seed).fork('faults'), nodes.length, ROUNDS);
    const seen = await revokeUnderLoad('revocations while things fail', {
      keys: 220 * ROUNDS,
      workers: 4,
      pauseMs: 250,
      settleEvery: 12,
      meanwhile: () => runFaults({ nodes, stores }, faults),
    });
    expect(seen.violations).toEqual([]);
    expect(seen.revoked).toBeGreaterThanOrEqual(200 * ROUNDS);
  });
});

function describeViolation({ rule, keyId, message }: Violation): string {
  return `${rule} of ${keyId}: ${message}`;
}
