import { expect, test } from 'vitest';
import { openTestEngine } from '../test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

test('I8: a denied request has consumed nothing of any limit, whatever the reason', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key } = await auth.keys.create({
    ...INPUT,
    rateLimits: [
      { name: 'burst', limit: 2, window: '1s' },
      { name: 'minute', limit: 10, window: '1m' },
    ],
    quota: { limit: 20, period: 'day' },
  });
  const remaining = async (): Promise<number[]> => {
    const answer = await auth.verify({ key, cost: 0 });
    return answer.limits.map((limit) => limit.remaining);
  };
  await auth.verify({ key });
  const before = await remaining();
  for (let n = 0; n < 10; n += 1) {
    expect(await auth.verify({ key, cost: 2 })).toMatchObject({ valid: false, denial: { violated: ['burst'] } });
    expect(await auth.verify({ key, permissions: ['docs:write'] })).toMatchObject({ valid: false });
    expect(await auth.verify({ key, environment: 'test' })).toMatchObject({ valid: false });
  }
  expect(await remaining()).toEqual(before);
  expect(before).toEqual([1, 9, 19]);
  clock.advance(2_000);
  expect(await auth.verify({ key, cost: 11 })).toMatchObject({ denial: { violated: ['burst', 'minute'] } });
  expect((await remaining())[2]).toBe(19);
});

test('I8: of many requests at once, tokens among them, exactly as many are admitted as the limit allows', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key, apiKey } = await auth.keys.create({
    ...INPUT,
    rateLimits: [{ name: 'minute', limit: 50, window: '1m' }],
    quota: { limit: 40, period: 'month' },
  });
  const exchange = await auth.tokens.exchange({ key });
  const token = exchange.issued ? exchange.token.token : '';
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, n) => (n % 2 === 0 ? auth.verify({ key }) : auth.tokens.verify({ token }))),
  );
  const valid = answers.filter((answer) => answer.valid);
  // The exchange took one.
  expect(valid).toHaveLength(39);
  for (const answer of answers)
    if (!answer.valid)
      expect(answer).toMatchObject({ denial: { code: 'quota_exceeded', violated: ['quota'] }, secretVerified: true });
  for (const limit of answers.flatMap(({ limits }) => limits)) {
    expect(limit.remaining).toBeGreaterThanOrEqual(0);
    expect(limit.remaining).toBeLessThanOrEqual(limit.limit);
  }
  expect(await auth.keys.get(apiKey.id)).toMatchObject({ usageCount: 40 });
});

test('I8: two processes together never grant more of a quota than its limit, nor after a restart', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const { key } = await engine.auth.keys.create({ ...INPUT, quota: { limit: 30, period: 'day' } });
  const use = async (auth: typeof other): Promise<number> => {
    const answers = await Promise.all(Array.from({ length: 25 }, () => auth.verify({ key })));
    return answers.filter(({ valid }) => valid).length;
  };
  const counts = await Promise.all([use(engine.auth), use(other)]);
  expect(counts[0] + counts[1]).toBeLessThanOrEqual(30);
  expect(counts[0] + counts[1]).toBeGreaterThanOrEqual(29);
  await other.close();
  const restarted = await engine.openAgain();
  engine.clock.advance(2_000);
  expect(counts[0] + counts[1] + (await use(restarted)) + (await use(engine.auth))).toBe(30);
});
