/** A private Redis does what fault tests ask of it, alone, as a replica and as a cluster. */
import { createCluster } from 'redis';
import { expect, test } from 'vitest';
import { isRunning, readProcess } from './process-tree.ts';
import { startRedis } from './redis.ts';
import { startRedisCluster } from './redis-cluster.ts';
import { describeWithOwnRedis } from './scratch.ts';

describeWithOwnRedis('a private Redis', () => {
  test('loses all data when it is killed, and restarts on its port', async () => {
    await using server = await startRedis();
    await server.command('SET', 'a', '1');
    const { pid, url } = server;
    await server.kill();
    expect(isRunning(pid)).toBe(false);
    await expect(server.command('PING')).rejects.toThrow('ECONNREFUSED');
    await server.restart();
    expect([server.url, await server.command('GET', 'a')]).toEqual([url, null]);
  });

  test('answers no client while it is paused', async () => {
    await using server = await startRedis();
    await server.pause();
    let answered = false;
    const answer = server.command('PING').then((said) => {
      answered = true;
      return said;
    });
    expect(readProcess(server.pid)?.state).toBe('T');
    expect(answered).toBe(false);
    server.resume();
    expect(await answer).toBe('PONG');
  });

  test('denies writes past its memory', async () => {
    await using server = await startRedis({ maxmemory: '1kb' });
    await expect(server.command('SET', 'a', '1')).rejects.toThrow('OOM');
  });

  test('has a replica with the same data, which stays a primary once promoted', async () => {
    await using primary = await startRedis();
    await primary.command('SET', 'a', '1');
    await using replica = await startRedis({ replicaOf: primary });
    expect(await replica.command('GET', 'a')).toBe('1');
    await expect(replica.command('SET', 'a', '2')).rejects.toThrow('READONLY');
    await primary.kill();
    await replica.promote();
    expect(await replica.command('SET', 'a', '2')).toBe('OK');
    await replica.restart();
    expect(await replica.command('SET', 'a', '3')).toBe('OK');
  });

  test('says why it does not start', async () => {
    await expect(startRedis({ settings: { 'no-such-setting': '1' } })).rejects.toThrow('no-such-setting');
  });

  test('forms a cluster whose every slot is served, with replicas', async () => {
    await using cluster = await startRedisCluster(3, 1);
    expect([cluster.primaries.length, cluster.replicas.length]).toEqual([3, 3]);
    const client = createCluster({ rootNodes: cluster.urls.map((url) => ({ url })) });
    await client.connect();
    const keys = Array.from({ length: 30 }, (_, index) => `key-${index}`);
    await Promise.all(keys.map((key) => client.set(key, key)));
    expect(await Promise.all(keys.map((key) => client.get(key)))).toEqual(keys);
    client.destroy();
    const sizes = await Promise.all(cluster.primaries.map((node) => node.command('DBSIZE')));
    expect(sizes.map(Number).reduce((sum, size) => sum + size)).toBe(keys.length);
    expect(sizes.every((size) => Number(size) > 0)).toBe(true);
  });
});
