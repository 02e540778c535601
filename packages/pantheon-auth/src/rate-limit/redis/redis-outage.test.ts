import { createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../../../../../tools/servers/redis.ts';
import { startRedisCluster } from '../../../../../tools/servers/redis-cluster.ts';
import { describeWithOwnRedis } from '../../../../../tools/servers/scratch.ts';
import type { RateLimitRule } from '../../domain/limits.ts';
import { systemClock } from '../../foundation/clock.ts';
import type { LimitDecision, LimitRequest, QuotaLedger, RateLimiter } from '../rate-limiter.ts';
import { COMMAND_TIMEOUT_MS, IN_FLIGHT_MAX } from './redis-command-deadline.ts';
import { type RedisLimitsOptions, redisLimits } from './redis-limits.ts';
import { clusterSlotOf, markerKey, stateKey } from './redis-windows.ts';

const UNLIMITED: QuotaLedger = {
  reserve: async (_, units) => ({ granted: units, left: 1_000 }),
  release: async () => undefined,
};
const RECOVERY = { timeout: 8_000, interval: 50 };
/** Of a key that was made after whatever a server loses in these tests. */
const NEWER = Date.now() + 600_000;

const rule = (name: string, limit: number, windowSeconds: number): RateLimitRule => ({ name, limit, windowSeconds });
const hourly = [rule('hourly', 9, 3_600)];
const admittedOf = (decisions: readonly LimitDecision[]): number => decisions.filter(({ admitted }) => admitted).length;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const open: RateLimiter[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((limiter) => limiter.close()));
});

/** A node of three. */
async function node(url: string, options: Partial<RedisLimitsOptions> & { readonly isFirstUse?: boolean } = {}) {
  const { isFirstUse = true, ...rest } = options;
  const lines: string[] = [];
  const log = (fields: object, message: string): void => void lines.push(`${message} ${JSON.stringify(fields)}`);
  const limiter = await redisLimits({ url, ...rest }).open({
    clock: systemClock,
    quotaLedger: UNLIMITED,
    nodeCount: () => 3,
    claimFirstUse: async () => isFirstUse,
    logger: { warn: log, error: log },
  });
  open.push(limiter);
  const decide = async (overrides: Partial<LimitRequest> = {}): Promise<LimitDecision> =>
    limiter.decide({ tenantId: 't', keyId: 'k', createdAt: 0, rules: hourly, quota: null, cost: 1, ...overrides });
  const times = async (count: number, overrides: Partial<LimitRequest> = {}): Promise<LimitDecision[]> =>
    Promise.all(Array.from({ length: count }, () => decide(overrides)));
  const isWhole = async (): Promise<void> => expect.poll(() => limiter.status().isDegraded, RECOVERY).toBe(false);
  return { limiter, decide, times, isWhole, lines };
}

describeWithOwnRedis('a Redis that is gone', () => {
  test('during an outage each node admits its share, minus what it has admitted; afterwards Redis is sent what was admitted', async () => {
    await using redis = await startRedis({ settings: { appendonly: 'yes', appendfsync: 'always' } });
    const { decide, times, isWhole, limiter, lines } = await node(redis.url);
    expect(await times(2)).toMatchObject([{ degraded: false }, { limits: [{ remaining: 7 }] }]);
    await redis.kill();
    await times(1, { keyId: 'first to notice' });
    const alone = await times(3);
    expect(alone[0]).toMatchObject({ admitted: true, degraded: true, limits: [{ limit: 9, remaining: 0 }] });
    expect(alone[1]).toMatchObject({ admitted: false, degraded: true, code: 'rate_limited', violated: ['hourly'] });
    expect(limiter.status()).toEqual({ isDegraded: true, degradedDecisions: 4 });
    await redis.restart();
    await isWhole();
    // 2 before, 1 alone, and this one.
    expect(await decide()).toMatchObject({ admitted: true, degraded: false, limits: [{ remaining: 5 }] });
    expect(await decide()).toMatchObject({ limits: [{ remaining: 4 }] });
    expect(lines).toEqual([
      expect.stringContaining('Redis does not count limits now'),
      'Redis counts limits again. {}',
    ]);
  });

  test('the smallest share is one, and uses admitted alone never exceed the limit', async () => {
    await using redis = await startRedis();
    const { times } = await node(redis.url);
    await redis.kill();
    await times(1, { keyId: 'first to notice' });
    expect(admittedOf(await times(5, { rules: [rule('one', 1, 60)] }))).toBe(1);
    expect(admittedOf(await times(5, { keyId: 'none', rules: [rule('none', 0, 60)] }))).toBe(0);
  });

  test('with the policy deny the answer is 503 with Retry-After', async () => {
    await using redis = await startRedis();
    const { decide, limiter, isWhole } = await node(redis.url, { onLimiterOutage: 'deny' });
    expect(await decide()).toMatchObject({ admitted: true });
    await redis.kill();
    await expect(decide()).rejects.toMatchObject({ code: 'limiter_unavailable', retryAfterSeconds: 1 });
    await expect(decide({ quota: { limit: 5, period: 'day' } })).rejects.toMatchObject({ code: 'limiter_unavailable' });
    expect(limiter.status()).toMatchObject({ isDegraded: true, degradedDecisions: 2 });
    expect(await decide({ rules: [], quota: { limit: 5, period: 'day' } })).toMatchObject({ admitted: true });
    await redis.restart();
    await isWhole();
    expect(await decide({ createdAt: NEWER })).toMatchObject({ admitted: true, degraded: false });
  });

  test('a Redis that is unavailable at the start is an outage; it is used when it comes', async () => {
    await using redis = await startRedis();
    await redis.kill();
    const { decide, isWhole, limiter } = await node(redis.url);
    expect(limiter.status().isDegraded).toBe(true);
    expect(await decide()).toMatchObject({ admitted: true, degraded: true });
    await redis.restart();
    await isWhole();
    expect(await decide()).toMatchObject({ admitted: true, degraded: false, limits: [{ remaining: 7 }] });
  });

  test('a Redis that restarts empty starts without available units', async () => {
    await using redis = await startRedis();
    const { decide, isWhole } = await node(redis.url);
    await decide();
    await redis.restart();
    await expect.poll(async () => (await decide({ cost: 0 })).degraded, RECOVERY).toBe(true);
    await isWhole();
    expect(await decide()).toMatchObject({ admitted: false, degraded: false });
    expect(await decide({ keyId: 'newcomer', createdAt: NEWER })).toMatchObject({ admitted: true, degraded: false });
  });
});

describeWithOwnRedis('a Redis that does not answer well', () => {
  test('a stopped Redis is waited for once, briefly, and then not at all; every use is still counted', async () => {
    await using redis = await startRedis();
    const { decide, times, isWhole } = await node(redis.url);
    await decide();
    await redis.pause();
    const startMs = performance.now();
    const first = await times(2);
    const firstMs = performance.now() - startMs;
    expect(first).toMatchObject([{ degraded: true }, { degraded: true }]);
    expect(firstMs).toBeGreaterThanOrEqual(COMMAND_TIMEOUT_MS);
    expect(firstMs).toBeLessThan(400);
    for (let nth = 0; nth < 20; nth += 1) {
      const beforeMs = performance.now();
      await decide();
      expect(performance.now() - beforeMs).toBeLessThan(100);
      await pause(60);
    }
    redis.resume();
    await isWhole();
    // 3 admitted in all. Two questions may have been counted both there and here: less is left then, never more.
    const after = await decide();
    expect(after.degraded).toBe(false);
    expect(after.limits[0]?.remaining).toBeLessThanOrEqual(5);
  });

  test('a blocked event loop is not taken for an outage of Redis', async () => {
    await using redis = await startRedis();
    const { decide, limiter } = await node(redis.url);
    const decisions = [decide(), decide()];
    const untilMs = performance.now() + 2 * COMMAND_TIMEOUT_MS;
    while (performance.now() < untilMs);
    await pause(0);
    decisions.push(decide());
    expect(await Promise.all(decisions)).toMatchObject([{ degraded: false }, { degraded: false }, { degraded: false }]);
    expect(limiter.status()).toEqual({ isDegraded: false, degradedDecisions: 0 });
  });

  test('a Redis that became a replica is an outage (READONLY), until it is a primary', async () => {
    await using primary = await startRedis();
    await using redis = await startRedis();
    const { decide, isWhole, lines } = await node(redis.url);
    await decide();
    await redis.command('REPLICAOF', primary.host, String(primary.port));
    expect(await decide()).toMatchObject({ admitted: true, degraded: true });
    expect(lines[0]).toContain('READONLY');
    await redis.command('REPLICAOF', 'NO', 'ONE');
    await isWhole();
    expect(await decide({ createdAt: NEWER })).toMatchObject({ degraded: false });
  });

  test('a Redis that is out of memory is an outage (OOM), until it has memory', async () => {
    await using redis = await startRedis({ maxmemory: '30mb', settings: { 'maxmemory-policy': 'noeviction' } });
    const { decide, isWhole, lines } = await node(redis.url);
    await decide();
    await redis.command('CONFIG', 'SET', 'maxmemory', '100kb');
    expect(await decide()).toMatchObject({ admitted: true, degraded: true });
    expect(lines[0]).toContain('OOM');
    await redis.command('CONFIG', 'SET', 'maxmemory', '0');
    await isWhole();
    expect(await decide()).toMatchObject({ degraded: false, limits: [{ remaining: 6 }] });
  });

  test('a Redis that begins to evict is not used any more', async () => {
    await using redis = await startRedis();
    const { decide, isWhole, lines } = await node(redis.url);
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    await redis.command('CONFIG', 'SET', 'maxmemory', '100mb');
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
    await expect.poll(async () => (await decide({ cost: 0 })).degraded, RECOVERY).toBe(true);
    await pause(300);
    expect(await decide()).toMatchObject({ degraded: true });
    expect(lines).toHaveLength(1);
    await redis.command('CONFIG', 'SET', 'maxmemory', '0');
    await isWhole();
  });

  test('a server that only accepts connections delays no request, nor a start', async () => {
    const sockets = new Set<Socket>();
    const deaf = createServer((socket) => void sockets.add(socket));
    await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve));
    const address = deaf.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const startMs = performance.now();
    const { decide } = await node(`redis://127.0.0.1:${port}`);
    expect(performance.now() - startMs).toBeLessThan(3_000);
    const beforeMs = performance.now();
    expect(await decide()).toMatchObject({ admitted: true, degraded: true });
    expect(performance.now() - beforeMs).toBeLessThan(100);
    for (const socket of sockets) socket.destroy();
    deaf.close();
  });

  test('a request that may have been counted is never answered with a denial (I8)', async () => {
    await using redis = await startRedis();
    const { decide } = await node(redis.url);
    const rules = [rule('small', 3, 3_600)];
    await decide({ rules });
    await redis.pause();
    await expect(decide({ rules })).rejects.toMatchObject({ code: 'limiter_unavailable', retryAfterSeconds: 1 });
    expect(await decide({ rules })).toMatchObject({ admitted: false, degraded: true });
  });

  test('with a Redis that does not answer a bounded number of requests waits; the others are refused at once', async () => {
    await using redis = await startRedis();
    const { decide, isWhole, limiter } = await node(redis.url);
    await redis.pause();
    const rules = [rule('large', 60_000, 60)];
    const refused: number[] = [];
    let isAnyAnswered = false;
    const flood = Array.from({ length: IN_FLIGHT_MAX + 500 }, async (_, nth) => {
      try {
        expect(await decide({ rules })).toMatchObject({ admitted: true, degraded: true });
        isAnyAnswered = true;
      } catch (error) {
        expect(error).toMatchObject({ code: 'limiter_unavailable', retryAfterSeconds: 1 });
        expect(isAnyAnswered).toBe(false);
        refused.push(nth);
      }
    });
    await Promise.all(flood);
    expect(refused).toEqual(Array.from({ length: 500 }, (_, nth) => IN_FLIGHT_MAX + nth));
    redis.resume();
    await isWhole();
    expect(limiter.status().degradedDecisions).toBe(IN_FLIGHT_MAX);
  });
});

describeWithOwnRedis('failover', () => {
  test('during a failover to a configured replica requests continue to be counted', async () => {
    await using primary = await startRedis();
    await using replica = await startRedis({ replicaOf: primary });
    const { decide, times, isWhole } = await node(`${primary.url},${replica.url}`);
    await times(4);
    const has = async (): Promise<unknown> => replica.command('EXISTS', stateKey('k'));
    await expect.poll(has, RECOVERY).toBe(1);
    await pause(50);
    await primary.kill();
    await replica.promote();
    await expect.poll(async () => (await decide({ cost: 0 })).degraded, RECOVERY).toBe(true);
    await isWhole();
    expect(await decide()).toMatchObject({ admitted: true, degraded: false, limits: [{ remaining: 4 }] });
  });
});

describeWithOwnRedis('a cluster of three primaries', () => {
  const keyIds = Array.from({ length: 200 }, (_, nth) => `key${nth}`);

  test('keys of all slots are counted exactly; when one primary fails its keys degrade and the others do not', async () => {
    await using cluster = await startRedisCluster(3);
    // Else the loss of one stops all.
    await everyNode(cluster.nodes, 'CONFIG', 'SET', 'cluster-require-full-coverage', 'no');
    const letIn = ['ACL', 'SETUSER', 'limits', 'on', '>p@ss', '~pantheon-auth:*', '+@all'];
    await everyNode(cluster.nodes, ...letIn);
    const [seed = ''] = cluster.urls.map((url) => url.replace('//', '//limits:p%40ss@'));
    const nodes = [await node(seed), await node(cluster.urls.join(','), { isFirstUse: false })];
    const [first] = nodes;
    if (first === undefined) throw new Error('no node');

    const rules = [rule('hourly', 3, 3_600), rule('burst', 5, 10)];
    const all = await Promise.all(
      keyIds.map(async (keyId) => (await Promise.all(nodes.map(({ times }) => times(3, { keyId, rules })))).flat()),
    );
    expect(all.map(admittedOf)).toEqual(keyIds.map(() => 3));
    expect(all.flat().some(({ degraded }) => degraded)).toBe(false);
    // Every primary holds its part.
    for (const size of await everyNode(cluster.nodes, 'DBSIZE')) expect(size).toBeGreaterThan(100);
    for (const bucket of [0, 7, 99, 255])
      expect(await cluster.nodes[0]?.command('CLUSTER', 'KEYSLOT', markerKey(bucket))).toBe(clusterSlotOf(bucket));

    await cluster.primaries[1]?.kill();
    const ask = () => Promise.all(keyIds.map((keyId) => first.decide({ keyId, rules, cost: 0 })));
    await ask();
    const degraded = (await ask()).filter((decision) => decision.degraded).length;
    expect(degraded).toBeGreaterThan(30);
    expect(degraded).toBeLessThan(110);
    expect(first.limiter.status().isDegraded).toBe(true);

    await cluster.primaries[1]?.restart();
    await cluster.primaries[1]?.command(...letIn);
    await first.isWhole();
    // On a busy machine a command may still take too long for once.
    await expect.poll(async () => (await ask()).some(({ degraded }) => degraded), RECOVERY).toBe(false);
  });

  test('a primary that a replica replaces', async () => {
    await using cluster = await startRedisCluster(3, 1);
    await everyNode(cluster.nodes, 'CONFIG', 'SET', 'cluster-require-full-coverage', 'no');
    const { decide, limiter } = await node(cluster.urls.join(','));
    await Promise.all(keyIds.map((keyId) => decide({ keyId, cost: 4 })));
    await pause(100);
    await cluster.primaries[0]?.kill();
    const ask = () => Promise.all(keyIds.map((keyId) => decide({ keyId, cost: 0 })));
    await expect.poll(async () => (await ask()).some(({ degraded }) => degraded), RECOVERY).toBe(true);
    await expect.poll(async () => (await ask()).some(({ degraded }) => degraded), { timeout: 15_000 }).toBe(false);
    expect(limiter.status().isDegraded).toBe(false);
    expect(new Set((await ask()).map(({ limits }) => limits[0]?.remaining))).toEqual(new Set([5]));
  });
});

function everyNode(nodes: readonly RedisServer[], ...command: readonly string[]): Promise<unknown[]> {
  return Promise.all(nodes.map((each) => each.command(...command)));
}
