/** A rolling update of one node on PostgreSQL without Redis: the new node runs before the old one ends. */
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import type { ScaledOutOptions } from '../src/engine/options.ts';
import { createPantheonAuth, type PantheonAuth } from '../src/pantheon-auth.ts';
import { eventually } from './postgres-failures.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

/** A node that counts limits by itself. */
async function nodeOf({ options, clock }: TestEngine): Promise<PantheonAuth & AsyncDisposable> {
  const { limits: _local, ...alone } = options as ScaledOutOptions;
  const auth = await createPantheonAuth({ ...alone, clock });
  return { ...auth, [Symbol.asyncDispose]: () => auth.close() };
}

/** A key with this limit on it. */
async function keyUpTo(node: PantheonAuth, limit: number): Promise<string> {
  const rateLimits = [{ name: 'requests', limit, window: '1h' }];
  return (await node.keys.create({ userId: 'u', name: 'n', rateLimits })).key;
}

/** How many of so many uses of a key, one by one, are admitted. */
async function admittedOf(uses: number, node: PantheonAuth, key: string): Promise<number> {
  let admitted = 0;
  for (let use = 0; use < uses; use += 1) if ((await node.verify({ key })).valid) admitted += 1;
  return admitted;
}

const isAlone = (node: PantheonAuth): Promise<void> =>
  eventually(async () => expect(node.limiterStatus().isDegraded).toBe(false));

test('the new node starts beside the old one, each admits half of a limit, and the remaining one admits the whole', async () => {
  await using engine = await openTestEngine();
  await using old = await nodeOf(engine);
  const key = await keyUpTo(old, 10);
  expect(await old.verify({ key, cost: 0 })).toMatchObject({ degraded: false, limits: [{ limit: 10, remaining: 10 }] });

  await using successor = await nodeOf(engine);
  for (const node of [old, successor]) {
    expect(await node.verify({ key })).toMatchObject({
      valid: true,
      degraded: true,
      limits: [{ name: 'requests', limit: 10, remaining: 4 }],
    });
    expect(await admittedOf(9, node, key)).toBe(4);
    expect(await node.verify({ key })).toMatchObject({
      valid: false,
      denial: { code: 'rate_limited' },
      degraded: true,
      limits: [{ limit: 10, remaining: 0 }],
    });
    expect(node.limiterStatus()).toEqual({ isDegraded: true, degradedDecisions: 11 });
  }

  await old.close();
  await isAlone(successor);
  expect(await successor.verify({ key, cost: 0 })).toMatchObject({ degraded: false, limits: [{ remaining: 5 }] });
  expect(await admittedOf(9, successor, key)).toBe(5);
  engine.clock.advance(3_700_000);
  await isAlone(successor);
  expect(await admittedOf(12, successor, key)).toBe(10);
});

test('a limit of 1 admits one on each, a quota is shared exactly, and a third node is refused and changes nothing', async () => {
  await using engine = await openTestEngine();
  await using old = await nodeOf(engine);
  const key = await keyUpTo(old, 1);
  const quota = { limit: 30, period: 'day' } as const;
  const { key: metered } = await old.keys.create({ userId: 'u', name: 'n', quota });
  await using successor = await nodeOf(engine);
  expect(await refusalOf(nodeOf(engine))).toMatchObject({ code: 'redis_required' });
  for (const node of [old, successor]) expect(await admittedOf(3, node, key)).toBe(1);
  let granted = 0;
  for (let use = 0; use < 20; use += 1)
    for (const node of [old, successor]) granted += await admittedOf(1, node, metered);
  expect(granted).toBe(30);
  // The third may start as soon as one of the two has ended.
  await old.close();
  await using third = await eventually(() => nodeOf(engine));
  expect(await admittedOf(3, third, key)).toBe(1);
});

test('after the old node is killed the new one admits the whole limit', async () => {
  await using engine = await openTestEngine();
  const child = engine.startProcess(`
    await auth.close();
    const alone = await createPantheonAuth({ ...common, limits: undefined, database: withoutStoreTime(postgres({ url })) });
    const { key } = await alone.keys.create({ userId: 'u', name: 'n', rateLimits: [{ name: 'r', limit: 4, window: '1h' }] });
    console.log(key);
    await next();
  `);
  try {
    const { value: key = '' } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
    await using successor = await nodeOf(engine);
    expect(await admittedOf(4, successor, key)).toBe(2);
    child.kill('SIGKILL');
    await isAlone(successor);
    expect(await admittedOf(4, successor, key)).toBe(2);
  } finally {
    child.kill('SIGKILL');
  }
});

test('after the new node fails to start the old one admits the whole limit', async () => {
  await using engine = await openTestEngine();
  await using old = await nodeOf(engine);
  const key = await keyUpTo(old, 4);
  await using failing = await nodeOf(engine);
  expect(await admittedOf(4, old, key)).toBe(2);
  await failing.close();
  await isAlone(old);
  expect(await admittedOf(4, old, key)).toBe(2);
});
