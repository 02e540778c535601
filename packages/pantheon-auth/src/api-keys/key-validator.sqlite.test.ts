import { expect, test } from 'vitest';
import { StatementCount } from '../../test/statement-count.ts';
import { openTestEngine, turn } from '../../test/test-engine.ts';

test('I5: many denials by a limit share their reads of the head, and read nothing else', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const rateLimits = [{ name: 'minute', limit: 1, window: '1m' }];
  const { key } = await auth.keys.create({ userId: 'u', name: 'n', rateLimits });
  await auth.verify({ key });
  await turn();
  using statements = new StatementCount();
  const answers = await Promise.all(Array.from({ length: 1_000 }, () => auth.verify({ key })));
  expect(answers.every((one) => !one.valid && one.denial.code === 'rate_limited')).toBe(true);
  expect([statements.reads, statements.writes]).toEqual([0, 0]);
  expect(statements.heads).toBeLessThanOrEqual(2);
});

test('a key or token in memory is verified without awaiting anything', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key } = await auth.keys.create({ userId: 'u', name: 'n', permissions: ['docs:read'] });
  const exchange = await auth.tokens.exchange({ key });
  const token = exchange.issued ? exchange.token.token : '';
  const uses = [() => auth.verify({ key }), () => auth.tokens.verify({ token })];
  for (const use of uses) {
    await use();
    let answer: unknown = 'not yet';
    void use().then((verification) => {
      answer = verification;
    });
    // One turn of the microtask queue: an await in between would take another.
    await Promise.resolve();
    expect(answer).toMatchObject({ valid: true });
  }
});
