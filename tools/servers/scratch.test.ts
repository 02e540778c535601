/** Test files that run at the same time do not see each other's data, and leave none. */
import { expect, test } from 'vitest';
import { withClient } from './postgres.ts';
import { redisCommand } from './redis.ts';
import { describeWithPostgres, describeWithRedis, scratchPostgres, scratchRedis } from './scratch.ts';

describeWithPostgres('a scratch database', () => {
  test('is empty, separate from all others, and removed afterwards although a connection is open', async () => {
    const [a, b] = await Promise.all([scratchPostgres(), scratchPostgres()]);
    await withClient(a.url, (client) => client.query('create table only_here (id int)'));
    const { rows } = await withClient(b.url, (client) => client.query("select to_regclass('only_here') as found"));
    expect(rows).toEqual([{ found: null }]);
    await withClient(a.url, async () => {
      await a[Symbol.asyncDispose]();
    }).catch(() => undefined);
    await expect(withClient(a.url, (client) => client.query('select 1'))).rejects.toThrow('does not exist');
    await b[Symbol.asyncDispose]();
  });
});

describeWithRedis('a scratch Redis', () => {
  test('is empty and separate from all others, also if another one existed before', async () => {
    const scratches = await Promise.all(Array.from({ length: 5 }, scratchRedis));
    expect(new Set(scratches.map(({ url }) => url)).size).toBe(scratches.length);
    await Promise.all(scratches.map(({ url }) => redisCommand(url, ['SET', 'a', url])));
    expect(await Promise.all(scratches.map(({ url }) => redisCommand(url, ['GET', 'a'])))).toEqual(
      scratches.map(({ url }) => url),
    );
    await Promise.all(scratches.map((scratch) => scratch[Symbol.asyncDispose]()));
    await using next = await scratchRedis();
    expect(await redisCommand(next.url, ['DBSIZE'])).toBe(0);
  });
});
