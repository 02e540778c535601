import { expect, test } from 'vitest';
import { CLOCK_DOUBT_MS } from '../../src/foundation/clock.ts';
import { openTestEngine } from '../test-engine.ts';

const HOUR_MS = 3_600_000;
const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

test('I14: a clock set back makes nothing valid again: no key, version, token, limit or idempotency record', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const dated = await auth.keys.create({ ...INPUT, expiresIn: '1h' });
  const rotated = await auth.keys.create(INPUT);
  await auth.rotation.rotate(rotated.apiKey.id, { overlap: '1h' });
  const exchange = await auth.tokens.exchange({ key: (await auth.keys.create(INPUT)).key });
  const token = exchange.issued ? exchange.token.token : '';
  const limited = await auth.keys.create({
    ...INPUT,
    rateLimits: [{ name: 'day', limit: 1, window: '1d' }],
    quota: { limit: 5, period: 'day' },
  });
  const answer = async (): Promise<string[]> => {
    const all = [];
    for (const verification of [
      await auth.verify({ key: dated.key }),
      await auth.verify({ key: rotated.key }),
      await auth.tokens.verify({ token }),
      await auth.verify({ key: limited.key }),
    ])
      all.push(verification.valid ? 'valid' : verification.denial.code);
    return all;
  };
  expect(await answer()).toEqual(['valid', 'valid', 'valid', 'valid']);
  clock.advance(HOUR_MS);
  const ended = ['expired', 'version_retired', 'expired', 'rate_limited'];
  expect(await answer()).toEqual(ended);
  for (const back of [1_000, HOUR_MS, 24 * HOUR_MS, 365 * 24 * HOUR_MS]) {
    clock.setWall(clock.now() - back);
    clock.advance(10);
    expect(await answer(), `set back by ${back} ms`).toEqual(ended);
  }
  expect(engine.logged.join()).toContain('the clock was set back');
});

test('I14: nor does a restart with a clock that is minutes behind: the database has recorded the later time', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key } = await auth.keys.create({ ...INPUT, expiresIn: '1h' });
  clock.advance(HOUR_MS);
  // Nothing happened since, but that it was closed.
  await auth.close();
  clock.setWall(clock.now() - CLOCK_DOUBT_MS);
  const again = await engine.openAgain();
  expect(await again.verify({ key })).toMatchObject({ denial: { code: 'expired' } });
});

test('I14: an event that is written after a clock was set back is not dated before the event it follows', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { apiKey } = await auth.keys.create(INPUT);
  clock.advance(HOUR_MS);
  await auth.keys.suspend(apiKey.id);
  clock.setWall(clock.now() - CLOCK_DOUBT_MS);
  await auth.keys.resume(apiKey.id);
  await (await engine.openAgain()).keys.revoke(apiKey.id);
  const { items } = await auth.events.list('default', { subjectId: apiKey.id, order: 'oldest_first' });
  const times = items.map(({ at }) => at.getTime());
  expect(times).toEqual(times.toSorted((one, other) => one - other));
});

test('I14: a wall clock that is moved forward by minutes is followed, and does not change durations', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key } = await auth.keys.create({ ...INPUT, rateLimits: [{ name: 'minute', limit: 1, window: '1m' }] });
  await auth.verify({ key });
  clock.setWall(clock.now() + CLOCK_DOUBT_MS);
  clock.advance(10);
  expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'rate_limited' } });
  clock.advance(62_000);
  expect(await auth.verify({ key })).toMatchObject({ valid: true });
});
