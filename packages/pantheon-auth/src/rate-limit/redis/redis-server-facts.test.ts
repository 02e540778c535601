import { describe, expect, test } from 'vitest';
import { parseInfo, unfitness } from './redis-server-facts.ts';

const info = (lines: Record<string, string>): string =>
  ['# Server', ...Object.entries(lines).map(([name, value]) => `${name}:${value}`)].join('\r\n');

describe('where limits can be counted', () => {
  test.each([
    ['6.2.0', null],
    ['7.0.15', null],
    ['10.0.1', null],
    ['', null],
    ['6.0.16', expect.stringContaining('6.2')],
    ['5.0.14', expect.stringContaining('6.2')],
  ])('Redis %j: %j', (redis_version, expected) => {
    expect(unfitness(parseInfo(info({ redis_version })))).toEqual(expected);
  });

  test.each(['allkeys-lru', 'volatile-ttl', 'volatile-lru'])('not where counters may be evicted: %s', (policy) => {
    const facts = { redis_version: '7.2.4', maxmemory_policy: policy };
    expect(unfitness(parseInfo(info({ ...facts, maxmemory: '1048576' })))).toContain('noeviction');
    expect(unfitness(parseInfo(info({ ...facts, maxmemory: '0' })))).toBeNull();
  });

  test('what a server is', () => {
    expect(parseInfo(info({ role: 'slave', cluster_enabled: '1' }))).toMatchObject({
      isReplica: true,
      isCluster: true,
    });
    expect(parseInfo(info({ role: 'master', cluster_enabled: '0' }))).toMatchObject({
      isReplica: false,
      isCluster: false,
    });
  });
});
