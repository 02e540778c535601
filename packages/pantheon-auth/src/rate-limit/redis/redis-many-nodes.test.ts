/** What limits in Redis promise at their edges: loss, clusters that change, clocks, and a busy event loop. */
import { createClient } from 'redis';
import { afterEach, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../../../../../tools/servers/redis.ts';
import { startRedisCluster } from '../../../../../tools/servers/redis-cluster.ts';
import { describeWithOwnRedis } from '../../../../../tools/servers/scratch.ts';
import type { RateLimitRule } from '../../domain/limits.ts';
import { systemClock } from '../../foundation/clock.ts';
import type { LimitDecision, LimitRequest, QuotaLedger, RateLimiter } from '../rate-limiter.ts';
import { IN_FLIGHT_MAX } from './redis-command-deadline.ts';
import { type RedisLimitsOptions, redisLimits } from './redis-limits.ts';
import { bucketOf, clusterSlotOf, decideCall, markerKey, readAnswer, type WindowsAnswer } from './redis-windows.ts';
import { decideScript } from './redis-windows-script.ts';

const UNLIMITED: QuotaLedger = {
  reserve: async (_, units) => ({ granted: units, left: 1_000 }),
  release: async () => undefined,
};
const RECOVERY = { timeout: 8_000, interval: 50 };
const SLOTS = 16_384;
const START = 1_800_000_000_123;

const rule = (name: string, limit: number, windowSeconds: number): RateLimitRule => ({ name, limit, windowSeconds });
const hourly = [rule('hourly', 9, 3_600)];

const open: RateLimiter[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((limiter) => limiter.close()));
});

/** A node of three. */
async function node(url: string, options: Partial<RedisLimitsOptions> & { readonly isFirstUse?: boolean } = {}) {
  const { isFirstUse = true, ...rest } = options;
  const warnings: string[] = [];
  const limiter = await redisLimits({ url, ...rest }).open({
    clock: systemClock,
    quotaLedger: UNLIMITED,
    nodeCount: () => 3,
    claimFirstUse: async () => isFirstUse,
    logger: { warn: (_: object, message: string) => void warnings.push(message), error: () => undefined },
  });
  open.push(limiter);
  const decide = async (overrides: Partial<LimitRequest> = {}): Promise<LimitDecision> =>
    limiter.decide({ tenantId: 't', keyId: 'k', createdAt: 0, rules: hourly, quota: null, cost: 1, ...overrides });
  const isWhole = async (): Promise<void> => expect.poll(() => limiter.status().isDegraded, RECOVERY).toBe(false);
  return { limiter, decide, isWhole, warnings };
}

describeWithOwnRedis('a Redis that may lose part of what it counted', () => {
  test('a Redis that keeps snapshots only gives one warning: a restart sets limits back', async () => {
    await using redis = await startRedis({ settings: { save: '3600 1' } });
    const first = await node(redis.url);
    await first.decide();
    await redis.command('SAVE');
    const { warnings } = await node(redis.url);
    expect(warnings.filter((message) => message.includes('snapshots only'))).toHaveLength(1);
  });

  test('a Redis that begins to evict is not used any more, also if its connections stay', async () => {
    await using redis = await startRedis();
    const { limiter, decide } = await node(redis.url);
    await decide();
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    await redis.command('CONFIG', 'SET', 'maxmemory', '100mb');
    await expect.poll(() => limiter.status().isDegraded, RECOVERY).toBe(true);
  });
});

describeWithOwnRedis('a cluster that changes', () => {
  test('a cluster whose slots were not served at the start is used when they are', async () => {
    await using redis = await startRedis({ settings: { 'cluster-enabled': 'yes', databases: '1' } });
    const { isWhole } = await node(redis.url);
    await redis.command('CLUSTER', 'ADDSLOTS', ...Array.from({ length: SLOTS }, (_, slot) => String(slot)));
    await expect.poll(() => redis.command('CLUSTER', 'INFO'), RECOVERY).toContain('cluster_state:ok');
    await isWhole();
  });

  test('a slot that is being moved to another primary degrades its own keys and no others', async () => {
    await using cluster = await startRedisCluster(2);
    const [from, to] = cluster.primaries as [RedisServer, RedisServer];
    const { decide } = await node(cluster.urls.join(','));
    const isOfFirst = (keyId: string): boolean => clusterSlotOf(bucketOf(keyId)) < SLOTS / 2;
    const names = Array.from({ length: 100 }, (_, nth) => `key${nth}`).filter(isOfFirst);
    const [moving = ''] = names;
    const others = names.filter((keyId) => bucketOf(keyId) !== bucketOf(moving));
    await Promise.all(names.map((keyId) => decide({ keyId, cost: 0 })));

    const slot = String(clusterSlotOf(bucketOf(moving)));
    await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(await from.command('CLUSTER', 'MYID')));
    await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(await to.command('CLUSTER', 'MYID')));
    await decide({ keyId: moving });
    const decisions = await Promise.all(others.map((keyId) => decide({ keyId })));
    expect(decisions.filter(({ degraded }) => degraded)).toHaveLength(0);
  });
});

describeWithOwnRedis('a Redis that is well, under a flood of one key', () => {
  test('no more than the limit is admitted, also with more requests at once than may wait', async () => {
    await using redis = await startRedis();
    const { decide } = await node(redis.url);
    await decide({ keyId: 'other' });
    const flood = Array.from({ length: IN_FLIGHT_MAX + 100 }, async () => {
      const decision = await decide().catch(() => null);
      return decision?.admitted === true;
    });
    expect((await Promise.all(flood)).filter(Boolean)).toHaveLength(9);
  });
});

describeWithOwnRedis('a Redis that does not answer a busy node', () => {
  test('the wait is bounded, also when every turn of the event loop is long', async () => {
    await using redis = await startRedis();
    const { decide } = await node(redis.url);
    await decide();
    await redis.pause();
    const startMs = performance.now();
    let waitedMs: number | null = null;
    const decision = decide().then(() => {
      waitedMs = performance.now() - startMs;
    });
    while (waitedMs === null && performance.now() - startMs < 5_000) {
      const untilMs = performance.now() + 200;
      while (performance.now() < untilMs);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const boundedMs = waitedMs;
    redis.resume();
    await decision;
    expect(boundedMs).not.toBeNull();
  });
});

describeWithOwnRedis('the script', () => {
  async function withKey(work: (ask: Ask) => Promise<void>): Promise<void> {
    await using redis = await startRedis();
    const client = createClient({ url: redis.url, RESP: 2 });
    await client.connect();
    try {
      await client.set(markerKey(bucketOf('k')), '0');
      await work(async (nowMs, rules, { cost = 1, pending = [] } = {}) => {
        const request: LimitRequest = { tenantId: 't', keyId: 'k', createdAt: 0, rules, quota: null, cost };
        const call = decideCall(request, { now: nowMs, isTaking: true, pending });
        const script = decideScript('local nowMs = tonumber(table.remove(ARGV))\n');
        const reply = await client.eval(script, { keys: [...call.keys], arguments: [...call.args, String(nowMs)] });
        return readAnswer(reply as unknown as number[], request);
      });
    } finally {
      client.destroy();
    }
  }
  type Ask = (
    nowMs: number,
    rules: readonly RateLimitRule[],
    options?: { readonly cost?: number; readonly pending?: readonly number[] },
  ) => Promise<WindowsAnswer>;

  test('after a clock was set back, a key at its limit is denied for a window at most', async () => {
    await withKey(async (ask) => {
      const rules = [rule('r', 5, 60)];
      await ask(START, rules, { cost: 5 });
      const back = START - 3_600_000;
      expect(await ask(back, rules)).toMatchObject({ isAdmitted: false });
      expect(await ask(back + 30_000, rules)).toMatchObject({ isAdmitted: false });
      expect(await ask(back + 61_001, rules)).toMatchObject({ isAdmitted: true });
    });
  });

  test('uses that a node admitted alone are counted once by a new rule', async () => {
    await withKey(async (ask) => {
      const old = rule('a', 100, 60);
      await ask(START, [old], { cost: 3 });
      const answer = await ask(START, [old, rule('b', 100, 3_600)], { cost: 0, pending: [2, 2] });
      expect(answer.limits).toMatchObject([{ remaining: 95 }, { remaining: 95 }]);
    });
  });
});
