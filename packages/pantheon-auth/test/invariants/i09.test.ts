import { expect, test } from 'vitest';
import { formatKey, generateKey, parseKey } from '../../src/api-keys/key-generator.ts';
import { FAILURES_MAX } from '../../src/rate-limit/address-throttle.ts';
import { openWorld, StatementCount, turn, type World } from '../fixture.ts';
import { STORE } from '../store.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** The key with another secret, well formed. */
function wrongSecret(key: string): string {
  const [parsed, other] = [parseKey(key), parseKey(generateKey({ brand: 'pan', environment: 'live' }).key)];
  if (parsed === null || other === null) throw new Error('not a key');
  return formatKey({ ...parsed, secret: other.secret });
}

/** A new instance that remembers no key of interest; the data key of the tenant has been opened, which it is once. */
async function freshInstance(world: World) {
  const fresh = await world.openAgain();
  const { key } = await fresh.keys.create(INPUT);
  world.clock.advance(5);
  // What is under way of the log is applied before anything is counted.
  await fresh.ping();
  await fresh.verify({ key });
  await turn();
  return fresh;
}

/** Elsewhere the head is asked for ten times a second, whatever is used. */
const looks = (heads: number): number | null => (STORE === 'sqlite' ? heads : null);

/** Statements that a use costs. */
async function costOf(world: World, uses: readonly string[], ip: string | null = null) {
  const fresh = await freshInstance(world);
  world.clock.advance(5);
  const costs: { reads: number; writes: number; heads: number | null }[] = [];
  for (const key of uses) {
    using count = new StatementCount();
    await fresh.verify({ key, ip });
    costs.push({ reads: count.reads, writes: count.writes, heads: looks(count.heads) });
    await turn();
    world.clock.advance(5);
  }
  return costs;
}

test('I9: malformed costs nothing, a cold key one read, a warm one a look at the head', async () => {
  await using world = await openWorld();
  const { key } = await world.auth.keys.create(INPUT);
  const malformed = [
    '',
    'x',
    key.slice(1),
    `${key}0`,
    `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`,
    'x'.repeat(100_000),
  ];
  for (const cost of await costOf(world, malformed)) expect(cost).toEqual({ reads: 0, writes: 0, heads: looks(0) });
  expect(await costOf(world, [key, key, key])).toEqual([
    { reads: 1, writes: 0, heads: looks(1) },
    { reads: 0, writes: 0, heads: looks(1) },
    { reads: 0, writes: 0, heads: looks(1) },
  ]);
});

test('I9: a forged key costs the same as one that never was: one read, then none', async () => {
  await using world = await openWorld();
  const { key } = await world.auth.keys.create(INPUT);
  const forged = wrongSecret(key);
  const unknown = generateKey({ brand: 'pan', environment: 'live' }).key;
  const [one, other] = [await costOf(world, [forged, forged]), await costOf(world, [unknown, unknown])];
  expect(one).toEqual(other);
  expect(one.map(({ reads, writes }) => [reads, writes])).toEqual([
    [1, 0],
    [0, 0],
  ]);
});

test('I9: an address that keeps failing buys no more reads', async () => {
  await using world = await openWorld();
  const invented = Array.from(
    { length: 3 * FAILURES_MAX },
    () => generateKey({ brand: 'pan', environment: 'live' }).key,
  );
  const costs = await costOf(world, invented, '192.0.2.1');
  const reads = costs.filter((cost) => cost.reads > 0).length;
  expect(reads).toBeGreaterThanOrEqual(FAILURES_MAX);
  expect(reads).toBeLessThanOrEqual(FAILURES_MAX + 2);
  // All of a network that one sender owns counts as one.
  const v6 = Array.from({ length: 3 * FAILURES_MAX }, () => generateKey({ brand: 'pan', environment: 'live' }).key);
  const fresh = await world.openAgain();
  using count = new StatementCount();
  for (const [n, key] of v6.entries()) await fresh.verify({ key, ip: `2001:db8::${n.toString(16)}` });
  expect(count.reads).toBeLessThanOrEqual(FAILURES_MAX + 3);
});

test('I9: many uses of a key that nobody has read yet are one read', async () => {
  await using world = await openWorld();
  const { key } = await world.auth.keys.create(INPUT);
  const fresh = await freshInstance(world);
  using count = new StatementCount();
  const answers = await Promise.all(Array.from({ length: 500 }, () => fresh.verify({ key })));
  expect(answers.every(({ valid }) => valid)).toBe(true);
  expect([count.reads, count.writes]).toEqual([1, 0]);
});

test('I9: a use writes nothing while it is answered, limits and usage included', async () => {
  await using world = await openWorld();
  const { auth } = world;
  const { key } = await auth.keys.create({ ...INPUT, rateLimits: [{ name: 'minute', limit: 100, window: '1m' }] });
  world.clock.advance(5);
  await auth.ping();
  await auth.verify({ key });
  using count = new StatementCount();
  for (let n = 0; n < 200; n += 1) await auth.verify({ key });
  expect([count.reads, count.writes]).toEqual([0, 0]);
});
