import { expect, test } from 'vitest';
import { PantheonError } from '../../src/foundation/errors.ts';
import { COLD_READS_WAITING_MAX } from '../../src/verification/cold-reads.ts';
import { openTestEngine } from '../test-engine.ts';

test('I11: beyond its bound, reads of unknown ids get 503 with Retry-After, and are accepted again later', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key } = await auth.keys.create({ userId: 'u', name: 'n' });
  // The event of its creation drops what is in memory of it: it is to be known after that.
  engine.clock.advance(1);
  await auth.ping();
  await auth.verify({ key });
  const flood = Array.from({ length: COLD_READS_WAITING_MAX + 500 }, () =>
    auth.verify({ key: auth.generator.generateKey().key }),
  );
  const outcomes = Promise.allSettled(flood);
  // Who is known is served meanwhile.
  expect(await auth.verify({ key })).toMatchObject({ valid: true });
  const counts = { unknown: 0, overloaded: 0 };
  for (const outcome of await outcomes) {
    if (outcome.status === 'fulfilled') counts.unknown += 1;
    else {
      expect(outcome.reason).toBeInstanceOf(PantheonError);
      expect(outcome.reason).toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
      counts.overloaded += 1;
    }
  }
  expect(counts.unknown).toBeGreaterThanOrEqual(COLD_READS_WAITING_MAX);
  expect(counts.overloaded).toBeGreaterThan(0);
  expect(counts.unknown + counts.overloaded).toBe(COLD_READS_WAITING_MAX + 500);
  expect(await auth.verify({ key: auth.generator.generateKey().key })).toMatchObject({ denial: { code: 'unknown' } });
});

test('I11: a text longer than any credential is refused without being read', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  for (const text of ['x'.repeat(10_000_000), '.'.repeat(10_000_000), `pan_live_${'0'.repeat(10_000_000)}`]) {
    expect(await auth.verify({ key: text })).toMatchObject({ denial: { code: 'malformed' } });
    expect(await auth.tokens.verify({ token: text })).toMatchObject({ denial: { code: 'malformed' } });
  }
});
