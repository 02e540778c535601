import { describe, expect, test } from 'vitest';
import { formatKey, generateKey, parseKey } from '../../src/api-keys/key-generator.ts';
import { createPantheonAuth, type PantheonAuth } from '../../src/pantheon-auth.ts';
import { TestClock } from '../../src/testing/test-clock.ts';
import { type RestoredStore, restoreStore, STORED_FIXTURES } from '../restored-store.ts';
import { StatementCount } from '../statement-count.ts';
import { STORE } from '../store.ts';
import { openTestEngine, type TestEngine, turn } from '../test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** The key with another secret, well formed. */
function wrongSecret(key: string): string {
  const [parsed, other] = [parseKey(key), parseKey(generateKey({ keyPrefix: 'pan', environment: 'live' }).key)];
  if (parsed === null || other === null) throw new Error('not a key');
  return formatKey({ ...parsed, secret: other.secret });
}

/** Well formed, with an id that no store has issued. */
function invented(): string {
  return generateKey({ keyPrefix: 'pan', environment: 'live' }).key;
}

/** A new instance that remembers no key of interest; the data key of the tenant has been opened, which it is once. */
async function freshInstance(engine: TestEngine) {
  const fresh = await engine.openAgain();
  const { key } = await fresh.keys.create(INPUT);
  engine.clock.advance(5);
  // What is under way of the log is applied before anything is counted.
  await fresh.ping();
  await fresh.verify({ key });
  await turn();
  return fresh;
}

/** Elsewhere the head is asked for ten times a second, whatever is used. */
const looks = (heads: number): number | null => (STORE === 'sqlite' ? heads : null);

/** Statements that a use costs. */
async function costOf(engine: TestEngine, uses: readonly string[], ip: string | null = null) {
  const fresh = await freshInstance(engine);
  engine.clock.advance(5);
  const costs: { reads: number; writes: number; heads: number | null }[] = [];
  for (const key of uses) {
    using count = new StatementCount();
    await fresh.verify({ key, ip });
    costs.push({ reads: count.reads, writes: count.writes, heads: looks(count.heads) });
    await turn();
    engine.clock.advance(5);
  }
  return costs;
}

test('I9: a malformed key costs no I/O, a cold key one read, a cached one a read of the head', async () => {
  await using engine = await openTestEngine();
  const { key } = await engine.auth.keys.create(INPUT);
  const malformed = [
    '',
    'x',
    key.slice(1),
    `${key}0`,
    `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`,
    'x'.repeat(100_000),
  ];
  for (const cost of await costOf(engine, malformed)) expect(cost).toEqual({ reads: 0, writes: 0, heads: looks(0) });
  expect(await costOf(engine, [key, key, key])).toEqual([
    { reads: 1, writes: 0, heads: looks(1) },
    { reads: 0, writes: 0, heads: looks(1) },
    { reads: 0, writes: 0, heads: looks(1) },
  ]);
});

test('I9: a key with an invented id costs no I/O: the tag of the id is wrong', async () => {
  await using engine = await openTestEngine();
  const nothing = { reads: 0, writes: 0, heads: looks(1) };
  expect(await costOf(engine, [invented(), invented(), invented()], '192.0.2.1')).toEqual([nothing, nothing, nothing]);
});

test('I9: an id that this store issued costs one read, then none, whatever is wrong with the key', async () => {
  await using engine = await openTestEngine();
  const { key } = await engine.auth.keys.create(INPUT);
  const forged = wrongSecret(key);
  // Made by this store and stored by nobody, as one whose key was never committed.
  const unknown = engine.auth.generator.generateKey().key;
  const [one, other] = [await costOf(engine, [forged, forged]), await costOf(engine, [unknown, unknown])];
  expect(one).toEqual(other);
  expect(one.map(({ reads, writes }) => [reads, writes])).toEqual([
    [1, 0],
    [0, 0],
  ]);
});

test('I9: thousands of invented keys from one address read nothing, and valid cold keys from it are accepted', async () => {
  await using engine = await openTestEngine();
  const cold = await Promise.all(Array.from({ length: 20 }, () => engine.auth.keys.create(INPUT)));
  const fresh = await freshInstance(engine);
  const ask = (key: string) => fresh.verify({ key, ip: '192.0.2.1' });
  const flood = (): Promise<unknown[]> => Promise.all(Array.from({ length: 3_000 }, () => ask(invented())));
  {
    using count = new StatementCount();
    for (const answer of await flood()) expect(answer).toMatchObject({ denial: { code: 'unknown' } });
    expect([count.reads, count.writes]).toEqual([0, 0]);
  }
  const meanwhile = flood();
  for (const { key } of cold) expect(await ask(key)).toMatchObject({ valid: true });
  for (const answer of await meanwhile) expect(answer).toMatchObject({ denial: { code: 'unknown' } });
});

describe('I9: in a store with keys that are older than tags', () => {
  const [name = ''] = STORED_FIXTURES;

  async function openOld(restored: RestoredStore): Promise<PantheonAuth> {
    const clock = new TestClock(Date.parse(restored.contents.madeAt) + 60_000);
    const auth = await createPantheonAuth({ ...restored.options, clock });
    // The data key of the tenant is opened once.
    await auth.verify({ key: restored.contents.keys.find((one) => one.answer === 'valid')?.credential ?? '' });
    await turn();
    return auth;
  }

  test('an invented id costs one read, then none', async () => {
    await using restored = await restoreStore(name);
    const auth = await openOld(restored);
    const key = invented();
    const reads: number[] = [];
    for (let use = 0; use < 3; use += 1) {
      using count = new StatementCount();
      expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'unknown' } });
      reads.push(count.reads);
    }
    expect(reads).toEqual([1, 0, 0]);
    await auth.close();
  });

  test('many of them at once get 503; other keys, old and new, are accepted from any address', async () => {
    await using restored = await restoreStore(name);
    const auth = await openOld(restored);
    const old = restored.contents.keys.filter((one) => one.answer === 'valid' && one.ip === null);
    const made = await Promise.all(Array.from({ length: 5 }, () => auth.keys.create(INPUT)));
    const flood = Promise.allSettled(
      Array.from({ length: 3_000 }, () => auth.verify({ key: invented(), ip: '192.0.2.1' })),
    );
    const ask = (key: string, ip: string, more: object = {}) => auth.verify({ key, ip, ...more });
    // New ones also from the address of the flood, which owes for reads by then.
    const answers = await Promise.all([
      ...made.map(({ key }) => ask(key, '192.0.2.1')),
      ...old.map(({ credential, tenant, environment }) => ask(credential, '192.0.2.2', { tenant, environment })),
    ]);
    expect(answers.map(({ valid }) => valid)).toEqual(answers.map(() => true));
    const outcomes = await flood;
    const refused = outcomes.filter((one) => one.status === 'rejected');
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'overloaded' });
    await auth.close();
  });
});

test('I9: many uses of a cold key at once share one read', async () => {
  await using engine = await openTestEngine();
  const { key } = await engine.auth.keys.create(INPUT);
  const fresh = await freshInstance(engine);
  using count = new StatementCount();
  const answers = await Promise.all(Array.from({ length: 500 }, () => fresh.verify({ key })));
  expect(answers.every(({ valid }) => valid)).toBe(true);
  expect([count.reads, count.writes]).toEqual([1, 0]);
});

test('I9: a verification writes nothing before its answer, limits and usage included', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key } = await auth.keys.create({ ...INPUT, rateLimits: [{ name: 'minute', limit: 100, window: '1m' }] });
  engine.clock.advance(5);
  await auth.ping();
  await auth.verify({ key });
  using count = new StatementCount();
  for (let n = 0; n < 200; n += 1) await auth.verify({ key });
  expect([count.reads, count.writes]).toEqual([0, 0]);
});
