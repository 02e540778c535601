/** Where the store is another machine, its time is a second opinion: a node that is far from it does not start. */
import { expect, test } from 'vitest';
import { acceptClock } from '../src/engine/accept-clock.ts';
import { CLOCK_DOUBT_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../src/foundation/clock.ts';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';
import { postgresNode } from './postgres-node.ts';
import { scratchPostgres } from './postgres-scratch.ts';
import { refusalOf } from './refusal-of.ts';
import { clockFrom } from './test-engine.ts';

const YEAR_MS = 365 * 24 * HOUR_MS;

test.each([
  ['a year ahead', YEAR_MS],
  ['an hour behind', -HOUR_MS],
])('a node whose clock is %s of the database server does not start, and dates nothing', async (_what, byMs) => {
  await using scratch = await scratchPostgres('started');
  const before = await scratch.stored();
  const database = postgres({ url: scratch.url });
  const clock = clockFrom(Date.now() + byMs);
  const refused = await refusalOf(createPantheonAuth({ ...postgresNode(scratch.url), database, clock }));
  expect(refused).toMatchObject({ code: 'clock_in_doubt', detail: expect.stringContaining('NTP') });
  expect(await scratch.stored()).toBe(before);
});

test('a node whose clock is a minute off starts, and uses the time of the server', async () => {
  await using scratch = await scratchPostgres('started');
  const database = postgres({ url: scratch.url });
  const clock = clockFrom(Date.now() - MINUTE_MS);
  const auth = await createPantheonAuth({ ...postgresNode(scratch.url), database, clock });
  const { apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
  const [row] = await scratch.sql('select floor(extract(epoch from clock_timestamp()) * 1000)::bigint as now');
  expect(Math.abs(apiKey.createdAt.getTime() - Number(row?.['now']))).toBeLessThan(30 * SECOND_MS);
  await auth.close();
});

test('a server whose time is behind the recorded time is refused until an operator accepts it', async () => {
  await using scratch = await scratchPostgres('started');
  // As a node left it that ran while the clocks of both machines were a year ahead.
  await (await createPantheonAuth({ ...postgresNode(scratch.url), clock: clockFrom(Date.now() + YEAR_MS) })).close();
  const options = { ...postgresNode(scratch.url), database: postgres({ url: scratch.url }) };
  expect(await refusalOf(createPantheonAuth(options))).toMatchObject({ code: 'clock_in_doubt' });
  expect(await acceptClock(options, { apply: true })).toMatchObject({
    isNeeded: true,
    done: { signingKeysReplaced: 6 },
  });
  const auth = await createPantheonAuth(options);
  const { apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
  expect(Math.abs(apiKey.createdAt.getTime() - Date.now())).toBeLessThan(CLOCK_DOUBT_MS);
  await auth.close();
});
