import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { inspect } from 'node:util';
import { createClient } from 'redis';
import { generate as generateCertificate } from 'selfsigned';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../../../../../tools/servers/free-port.ts';
import { type RedisServer, startRedis } from '../../../../../tools/servers/redis.ts';
import { describeWithOwnRedis } from '../../../../../tools/servers/scratch.ts';
import type { QuotaRule, RateLimitRule } from '../../domain/limits.ts';
import { systemClock } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { LimitDecision, LimitRequest, QuotaLease, QuotaLedger, RateLimiter } from '../rate-limiter.ts';
import { type RedisLimitsOptions, redisLimits } from './redis-limits.ts';
import { BUCKETS, markerKey, stateKey } from './redis-windows.ts';

class MemoryLedger implements QuotaLedger {
  readonly reserved = new Map<string, number>();
  failure: Error | null = null;

  async reserve({ keyId, limit }: QuotaLease, units: number): Promise<{ granted: number; left: number }> {
    await Promise.resolve();
    if (this.failure !== null) throw this.failure;
    const before = this.reserved.get(keyId) ?? 0;
    const granted = Math.min(units, limit - before);
    this.reserved.set(keyId, before + granted);
    return { granted, left: limit - before - granted };
  }

  async release({ keyId }: QuotaLease, units: number): Promise<void> {
    this.reserved.set(keyId, (this.reserved.get(keyId) ?? 0) - units);
  }
}

const rule = (name: string, limit: number, windowSeconds: number): RateLimitRule => ({ name, limit, windowSeconds });
const daily = (limit: number): QuotaRule => ({ limit, period: 'day' });
const admittedOf = (decisions: readonly LimitDecision[]): number => decisions.filter(({ admitted }) => admitted).length;

/** Of a key that was made after all that these tests let Redis lose. */
const NEWER = Date.now() + 600_000;

let server: RedisServer;
const open: RateLimiter[] = [];
let keys = 0;
let firstUse = true;

describeWithOwnRedis('limits in Redis', () => {
  beforeAll(async () => {
    server = await startRedis();
  });

  afterEach(async () => {
    await Promise.all(open.splice(0).map((limiter) => limiter.close()));
  });

  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  async function setUp(options: Partial<RedisLimitsOptions> = {}, quotaLedger = new MemoryLedger()) {
    const lines: string[] = [];
    const log = (fields: object, message: string): void => void lines.push(`${message} ${JSON.stringify(fields)}`);
    const limiter = await redisLimits({ url: server.url, ...options }).open({
      clock: systemClock,
      quotaLedger,
      nodeCount: () => 3,
      claimFirstUse: async () => {
        const isFirst = firstUse;
        firstUse = false;
        return isFirst;
      },
      logger: { warn: log, error: log },
    });
    open.push(limiter);
    keys += 1;
    const keyId = `key${keys}`;
    const request = (overrides: Partial<LimitRequest>): LimitRequest => {
      return { tenantId: 't', keyId, createdAt: 0, rules: [], quota: null, cost: 1, ...overrides };
    };
    const decide = async (overrides: Partial<LimitRequest>): Promise<LimitDecision> =>
      limiter.decide(request(overrides));
    return { limiter, request, decide, keyId, lines, quotaLedger };
  }

  /** What Redis was asked while `work` ran. */
  async function commandsDuring(work: () => Promise<unknown>): Promise<string[]> {
    const commands: string[] = [];
    const monitor = createClient({ url: server.url, RESP: 2 });
    await monitor.connect();
    await monitor.monitor((line) => commands.push(String(line)));
    await work();
    // What was asked before this answers is reported before it.
    await server.command('PING');
    await expect.poll(() => commands.some((line) => line.includes('"PING"'))).toBe(true);
    monitor.destroy();
    return commands.filter((line) => !line.includes(' lua]') && /"EVAL(SHA)?"/i.test(line));
  }

  describe('rate limits over several nodes', () => {
    test('the first start creates all markers, and limits start empty', async () => {
      await setUp();
      const markers = await Promise.all(
        Array.from({ length: BUCKETS }, async (_, bucket) => server.command('GET', markerKey(bucket))),
      );
      expect(new Set(markers)).toEqual(new Set(['0']));
    });

    test('of a thousand requests at once on three nodes against a limit of a hundred, exactly a hundred are admitted', async () => {
      const nodes = [await setUp(), await setUp(), await setUp()];
      const rules = [rule('burst', 100, 60)];
      const decisions = await Promise.all(
        Array.from({ length: 1_000 }, async (_, nth) => nodes[nth % 3]?.decide({ keyId: 'crowd', rules })),
      );
      expect(decisions.filter((decision) => decision?.admitted === true)).toHaveLength(100);
      expect(decisions.every((decision) => decision?.degraded === false)).toBe(true);
    });

    test('no more than the limit is admitted in any window, over its boundaries, from two nodes', async () => {
      const nodes = [await setUp(), await setUp()];
      const rules = [rule('burst', 20, 1)];
      const admitted: { before: number; after: number }[] = [];
      const until = performance.now() + 2_600;
      while (performance.now() < until) {
        const before = performance.now();
        const decisions = await Promise.all(nodes.map(({ decide }) => decide({ keyId: 'edges', rules })));
        const after = performance.now();
        for (let nth = admittedOf(decisions); nth > 0; nth -= 1) admitted.push({ before, after });
      }
      // Each was counted between the two moments, in whole milliseconds. Those that surely lie in one window:
      for (const first of admitted)
        expect(
          admitted.filter(({ before, after }) => before >= first.before && after <= first.before + 999).length,
        ).toBeLessThanOrEqual(20);
      expect(admitted.length).toBeGreaterThanOrEqual(40);
    });

    test('with several rules the answer is that of the limiter in memory, and a denial consumes nothing', async () => {
      const { decide } = await setUp();
      const rules = [rule('a', 2, 10), rule('b', 9, 60), rule('c', 2, 3_600)];
      expect(await decide({ rules, cost: 2 })).toEqual({
        admitted: true,
        limits: [
          { kind: 'rate', name: 'a', limit: 2, remaining: 0, resetSeconds: 10, windowSeconds: 10 },
          { kind: 'rate', name: 'b', limit: 9, remaining: 7, resetSeconds: expect.any(Number), windowSeconds: 60 },
          { kind: 'rate', name: 'c', limit: 2, remaining: 0, resetSeconds: 3_600, windowSeconds: 3_600 },
        ],
        degraded: false,
      });
      const denied = await decide({ rules });
      expect(denied).toMatchObject({ admitted: false, code: 'rate_limited', violated: ['a', 'c'] });
      expect(denied).toMatchObject({ limits: [{ remaining: 0 }, { remaining: 7 }, { remaining: 0 }] });
      expect(denied.admitted ? 0 : denied.retryAfterSeconds).toBeGreaterThan(3_590);
    });

    test.each([-1, 0.5, Number.NaN, 2 ** 53, 1_000_001])('a cost of %d is refused and not sent', async (cost) => {
      const { decide } = await setUp();
      await expect(decide({ rules: [rule('burst', 5, 60)], cost })).rejects.toMatchObject({ code: 'invalid_request' });
    });

    test('cost 0 only checks; a cost above the limit is always denied', async () => {
      const { decide, keyId } = await setUp();
      const rules = [rule('burst', 5, 60)];
      expect(await decide({ rules, cost: 0 })).toMatchObject({
        admitted: true,
        limits: [{ remaining: 5, resetSeconds: 0 }],
      });
      expect(await decide({ rules, cost: 6 })).toMatchObject({ admitted: false, retryAfterSeconds: 60 });
      expect(await server.command('EXISTS', stateKey(keyId))).toBe(0);
    });

    test('a request needs one round trip for rate limits, and none for a quota alone or without limits', async () => {
      const { decide } = await setUp();
      const rules = [rule('a', 5, 60), rule('b', 5, 3_600)];
      await decide({ rules });
      expect(await commandsDuring(() => decide({ rules }))).toHaveLength(1);
      expect(await commandsDuring(() => decide({ rules, quota: daily(50) }))).toHaveLength(1);
      expect(await commandsDuring(() => decide({ quota: daily(50) }))).toHaveLength(0);
    });

    test('scripts that were flushed are sent again without an error, and counted once', async () => {
      const { decide, limiter } = await setUp();
      const rules = [rule('burst', 10, 60)];
      await decide({ rules });
      await server.command('SCRIPT', 'FLUSH');
      const decisions = await Promise.all(Array.from({ length: 20 }, () => decide({ rules })));
      expect(admittedOf(decisions)).toBe(9);
      expect(limiter.status()).toEqual({ isDegraded: false, degradedDecisions: 0 });
    });
  });

  describe('quotas', () => {
    test('units are returned to the quota if Redis denies the request', async () => {
      const { decide, limiter, quotaLedger, keyId } = await setUp();
      const limits = { rules: [rule('burst', 3, 60)], quota: daily(1_000) };
      const decisions: LimitDecision[] = [];
      for (let nth = 0; nth < 10; nth += 1) decisions.push(await decide(limits));
      expect(admittedOf(decisions)).toBe(3);
      expect(decisions.at(-1)).toMatchObject({
        code: 'rate_limited',
        violated: ['burst'],
        limits: [{ remaining: 0 }, { remaining: 997 }],
      });
      await limiter.close();
      expect(quotaLedger.reserved.get(keyId)).toBe(3);
    });

    test('a used-up quota takes nothing from the rate limits, and both are named if both deny', async () => {
      const { decide } = await setUp();
      const limits = { rules: [rule('burst', 3, 60)], quota: daily(2) };
      await decide({ ...limits, cost: 2 });
      expect(await decide(limits)).toMatchObject({
        admitted: false,
        code: 'quota_exceeded',
        violated: ['quota'],
        limits: [{ remaining: 1 }, { remaining: 0 }],
      });
      expect(await decide({ ...limits, cost: 2 })).toMatchObject({
        code: 'quota_exceeded',
        violated: ['burst', 'quota'],
      });
    });

    test('a thousand requests at once on two nodes never exceed a quota, which survives a flush of Redis', async () => {
      const ledger = new MemoryLedger();
      const nodes = [await setUp({}, ledger), await setUp({}, ledger)];
      const limits = { keyId: 'quota', rules: [rule('burst', 1_000, 60)], quota: daily(90), createdAt: NEWER };
      const run = () => Promise.all(Array.from({ length: 500 }, async (_, nth) => nodes[nth % 2]?.decide(limits)));
      const first = await run();
      await server.command('FLUSHALL');
      const second = await run();
      const admitted = [...first, ...second].filter((decision) => decision?.admitted === true).length;
      expect(admitted).toBe(90);
    });

    test('if the ledger fails, Redis is not asked', async () => {
      const { decide, quotaLedger, keyId } = await setUp();
      quotaLedger.failure = new Error('gone');
      await expect(decide({ rules: [rule('burst', 1, 60)], quota: daily(5) })).rejects.toMatchObject({
        code: 'limiter_unavailable',
      });
      expect(await server.command('EXISTS', stateKey(keyId))).toBe(0);
    });
  });

  describe('data loss', () => {
    test('after FLUSHALL a key has no units until its window has passed; a new key is usable at once', async () => {
      const { decide, lines } = await setUp();
      const rules = [rule('burst', 5, 1)];
      await decide({ rules });
      await server.command('FLUSHALL');
      expect(await decide({ rules })).toMatchObject({ admitted: false, degraded: false });
      expect(await decide({ keyId: 'newcomer', rules, createdAt: NEWER })).toMatchObject({ admitted: true });
      await expect.poll(async () => (await decide({ rules })).admitted, { timeout: 3_000 }).toBe(true);
      expect(lines).toEqual(['Redis has lost its counters: limits start as used up, for one window. {}']);
    });
  });

  describe('settings', () => {
    test.each(['', 'http://x', 'redis://', 'redis://a,', 'redis://a/x', 'not a url', 'redis://:%zz@a'])(
      '%j is refused, and nothing of it is repeated',
      (url) => {
        expect(() => redisLimits({ url })).toThrow(expect.objectContaining({ code: 'invalid_setting', field: 'url' }));
      },
    );

    test('an unknown policy is refused', () => {
      const options = JSON.parse('{"url":"redis://a","onLimiterOutage":"open"}') as RedisLimitsOptions;
      expect(() => redisLimits(options)).toThrow(PantheonError);
    });

    test('a Redis that evicts is refused', async () => {
      await using evicting = await startRedis({ maxmemory: '50mb', settings: { 'maxmemory-policy': 'allkeys-lru' } });
      await expect(setUp({ url: evicting.url })).rejects.toMatchObject({
        code: 'invalid_setting',
        field: 'limits.url',
      });
    });

    test('passwords are used and shown nowhere: not in an error, the log or the inspector', async () => {
      await using locked = await startRedis({ settings: { requirepass: 'tr0ub4dor&3' } });
      const url = `redis://default:${encodeURIComponent('tr0ub4dor&3')}@${locked.host}:${locked.port}`;
      const { decide, limiter, lines } = await setUp({ url });
      const settings = redisLimits({ url });
      expect(await decide({ rules: [rule('burst', 5, 60)], createdAt: NEWER })).toMatchObject({ admitted: true });
      const refused = await setUp({ url: url.replace('tr0ub4dor', 'tr0mbone') }).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: 'invalid_setting' });
      await locked.kill();
      expect(await decide({ keyId: 'alone', rules: [rule('burst', 5, 60)] })).toMatchObject({ degraded: true });
      expect(lines).not.toEqual([]);
      expect(inspect([lines, limiter, settings, refused], { depth: 12, showHidden: true })).not.toMatch(/tr0/);
    });

    test('a wrong password is refused', async () => {
      await using locked = await startRedis({ settings: { requirepass: 'right' } });
      for (const url of [`redis://:wrong@${locked.host}:${locked.port}`, locked.url])
        await expect(setUp({ url })).rejects.toMatchObject({ code: 'invalid_setting', field: 'limits.url' });
    });

    test('an error that an operator must correct is refused with what to do: database, host, certificate; an outage is not refused', async () => {
      await using own = await startRedis({ settings: { databases: '4' } });
      const wrong = [
        [`redis://${own.host}:${own.port}/9`, 'no database of that number'],
        ['redis://no-such-host.invalid:6379', 'no such host'],
      ] as const;
      for (const [url, detail] of wrong)
        await expect(setUp({ url }), url).rejects.toMatchObject({
          code: 'invalid_setting',
          field: 'limits.url',
          detail: expect.stringContaining(detail),
        });
      const { private: key, cert } = await generateCertificate([{ name: 'commonName', value: 'cache' }]);
      const { promise: listening, resolve } = Promise.withResolvers<void>();
      const untrusted = createServer({ key, cert }).listen(0, '127.0.0.1', resolve);
      await listening;
      const { port } = untrusted.address() as AddressInfo;
      await expect(setUp({ url: `rediss://127.0.0.1:${port}` })).rejects.toMatchObject({
        code: 'invalid_setting',
        detail: expect.stringContaining('certificate'),
      });
      untrusted.close();
      expect((await setUp({ url: 'redis://127.0.0.1:1' })).limiter.status()).toMatchObject({ isDegraded: true });
    });

    test('an address that says TLS where the server does not speak it, or the other way round, is refused with what to write', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-tls-'));
      const file = (name: string, text: string): string => {
        writeFileSync(join(folder, name), text, { mode: 0o600 });
        return join(folder, name);
      };
      const { private: key, cert } = await generateCertificate([{ name: 'commonName', value: 'cache' }]);
      const tlsPort = await freePort();
      const settings = {
        ...{ 'tls-port': String(tlsPort), 'tls-auth-clients': 'no', requirepass: 'right-pass' },
        ...{ 'tls-cert-file': file('cert', cert), 'tls-key-file': file('key', key) },
      };
      await using own = await startRedis({ settings });
      const [plain, tls] = [`${own.host}:${own.port}`, `${own.host}:${tlsPort}`];
      for (const [url, detail] of [
        [
          `rediss://:right-pass@${plain}`,
          'Redis does not speak TLS on this port. Give its port for TLS (tls-port), or write redis://.',
        ],
        [`redis://:right-pass@${tls}`, 'This port speaks TLS. Write rediss://.'],
        // The protocol is right, and what is wrong beside it is told as before.
        [`rediss://:right-pass@${tls}`, expect.stringContaining('certificate')],
        [`redis://:wrong-pass@${plain}`, expect.stringContaining('Check the user and the password.')],
      ] as const)
        await expect(setUp({ url }), url).rejects.toMatchObject({
          code: 'invalid_setting',
          field: 'limits.url',
          detail,
        });
      expect((await setUp({ url: `redis://:right-pass@${plain}` })).limiter.status()).toMatchObject({
        isDegraded: false,
      });

      // One that does not answer at all may come back.
      await own.pause();
      for (const url of [`redis://:right-pass@${plain}`, `rediss://:right-pass@${tls}`])
        expect((await setUp({ url })).limiter.status(), url).toMatchObject({ isDegraded: true });
      own.resume();
      rmSync(folder, { recursive: true });
    }, 20_000);

    test('a user who may not ask INFO may count, and the operator is told', async () => {
      await using strict = await startRedis();
      await strict.command(
        'ACL',
        'SETUSER',
        'limits',
        'on',
        '>pw',
        '~pantheon-auth:*',
        '+@all',
        '-@dangerous',
        '-info',
      );
      const { decide, lines } = await setUp({ url: `redis://limits:pw@${strict.host}:${strict.port}` });
      expect(await decide({ rules: [rule('burst', 5, 60)], createdAt: NEWER })).toMatchObject({ admitted: true });
      expect(lines[0]).toContain('INFO is not allowed');
    });
  });

  describe('the end', () => {
    test('close waits for requests in progress and returns quotas; then nothing is decided', async () => {
      const { decide, limiter, quotaLedger, keyId } = await setUp();
      const last = decide({ rules: [rule('burst', 5, 60)], quota: daily(1_000), createdAt: NEWER });
      await limiter.close();
      expect(await last).toMatchObject({ admitted: true, degraded: false });
      expect(quotaLedger.reserved.get(keyId)).toBe(1);
      await expect(decide({ rules: [rule('burst', 5, 60)] })).rejects.toMatchObject({ code: 'shutting_down' });
    });
  });
});
