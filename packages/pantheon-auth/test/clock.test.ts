/** Clocks that are wrong at a start or while a node runs: nothing dead lives, and nothing is dated by a clock in doubt. */
import { describe, expect, test } from 'vitest';
import { acceptClock } from '../src/engine/accept-clock.ts';
import { CLOCK_DOUBT_MS, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../src/foundation/clock.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { untilRuns } from './job-runs.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };
const YEAR_MS = 365 * DAY_MS;

const start = new TestClock().now();

async function tokenOf(auth: PantheonAuth, key: string): Promise<string> {
  const exchange = await auth.tokens.exchange({ key });
  if (!exchange.issued) throw new Error(exchange.verification.denial.code);
  return exchange.token.token;
}

const codeOfKey = async (auth: PantheonAuth, key: string): Promise<string> => {
  const verification = await auth.verify({ key });
  return verification.valid ? 'valid' : verification.denial.code;
};

const codeOfToken = async (auth: PantheonAuth, token: string): Promise<string> => {
  const verification = await auth.tokens.verify({ token });
  return verification.valid ? 'valid' : verification.denial.code;
};

/** A moment later, when these nodes know of all that was changed. */
async function noticed(clocks: readonly TestClock[], nodes: readonly PantheonAuth[]): Promise<void> {
  for (const clock of clocks) clock.advance(1);
  for (const node of nodes) await node.ping();
}

test('a clock one year ahead at one start and one hour back at the next makes nothing valid again and dates nothing', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const dated = await auth.keys.create({ ...INPUT, expiresIn: '30m' });
  const rotated = await auth.keys.create(INPUT);
  await auth.rotation.rotate(rotated.apiKey.id, { overlap: '30m' });
  const revoked = await auth.keys.create(INPUT);
  await auth.keys.revoke(revoked.apiKey.id);
  const alive = await auth.keys.create(INPUT);
  const before = await tokenOf(auth, alive.key);
  clock.advance(HOUR_MS);
  expect([await codeOfKey(auth, dated.key), await codeOfKey(auth, rotated.key)]).toEqual([
    'expired',
    'version_retired',
  ]);
  await auth.close();

  // One start a year ahead: it cannot be told from a long rest, and it is said.
  clock.advance(YEAR_MS);
  const ahead = await engine.openAgain();
  expect(engine.logged.join('\n')).toContain('far ahead of the last recorded time of this database');
  const made = await ahead.keys.create({ ...INPUT, expiresIn: '1h' });
  const replaced = await ahead.rotation.rotate(alive.apiKey.id, { overlap: '1d' });
  const poisoned = await tokenOf(ahead, replaced.key);
  const undone = await ahead.keys.create(INPUT);
  await ahead.tokens.revokeAllOf({ tenantId: 'default', keyId: undone.apiKey.id });
  await ahead.close();

  // The next start one hour behind where the first node stopped: refused, and it says how to go on.
  clock.setWall(start);
  const refused = await refusalOf(engine.openAgain());
  expect(refused).toMatchObject({ code: 'clock_in_doubt' });
  expect(refused.message).toMatch(/2030-01-01T00:00.*2031-01-01T01:00.*NTP.*clock accept/);

  // Looking changes nothing.
  clock.setWall(start + 70 * MINUTE_MS);
  const options = { ...engine.options, clock };
  expect(await acceptClock(options)).toEqual({
    recorded: new Date(start + HOUR_MS + YEAR_MS),
    now: new Date(start + 70 * MINUTE_MS),
    isNeeded: true,
    done: null,
  });
  expect(await refusalOf(engine.openAgain())).toMatchObject({ code: 'clock_in_doubt' });

  const { done } = await acceptClock(options, { apply: true, reason: 'the clock of the machine was a year ahead' });
  expect(done).toEqual({ keysCorrected: 3, signingKeysReplaced: 6, keysLeft: [] });
  const again = await engine.openAgain();
  const { items } = await again.events.list('system', { type: 'store.clock_accepted' });
  expect(items).toMatchObject([
    { at: new Date(start + 70 * MINUTE_MS), reason: 'the clock of the machine was a year ahead' },
  ]);

  // What was dead is dead, what lives lives, and what the wrong time made is dated by the right one.
  const codes = async (): Promise<string[]> => [
    await codeOfKey(again, dated.key),
    await codeOfKey(again, rotated.key),
    await codeOfKey(again, revoked.key),
    await codeOfKey(again, alive.key),
    await codeOfToken(again, before),
    await codeOfToken(again, poisoned),
  ];
  const dead = ['expired', 'version_retired', 'revoked', 'version_retired', 'unknown', 'unknown'];
  expect(await codes()).toEqual(dead);
  expect(await codeOfKey(again, replaced.key)).toBe('valid');
  expect((await again.keys.get(made.apiKey.id)).expiresAt).toEqual(new Date(start + 130 * MINUTE_MS));
  const token = await tokenOf(again, undone.key);
  const verification = await again.tokens.verify({ token });
  expect(verification.valid && verification.token.issuedAt).toBe(clock.now() + SECOND_MS);
  expect(await codeOfToken(again, token)).toBe('valid');
  await again.close();

  // Nor when the wrong time comes.
  clock.advance(YEAR_MS);
  const later = await engine.openAgain();
  expect(await codeOfToken(later, poisoned)).toBe('unknown');
  expect(await codeOfKey(later, alive.key)).toBe('version_retired');
});

test('accepting the time changes nothing if the time is right', async () => {
  await using engine = await openTestEngine();
  const options = { ...engine.options, clock: engine.clock };
  expect(await acceptClock(options, { apply: true })).toMatchObject({ isNeeded: false, done: null });
  const { items } = await engine.auth.events.list('system', { type: 'store.clock_accepted' });
  expect(items).toEqual([]);
});

test('a recorded time that is not a time stops every start', async () => {
  for (const value of ['banana', 'Infinity', '-1', '1e3', '']) {
    await using engine = await openTestEngine();
    await engine.auth.close();
    await engine.sql("update meta set value = ? where name = 'latestTime'", value);
    expect(await refusalOf(engine.openAgain()), value).toMatchObject({ code: 'store_unusable' });
  }
});

test('the time of stored usage counts like that of an event: no node starts behind it', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key } = await auth.keys.create({ ...INPUT, expiresIn: '1h' });
  clock.advance(HOUR_MS);
  expect(await codeOfKey(auth, key)).toBe('expired');
  await auth.close();
  // As after a crash: the stop itself was not recorded.
  await engine.sql("delete from meta where name = 'latestTime'");
  clock.setWall(start + 30 * MINUTE_MS);
  expect(await refusalOf(engine.openAgain())).toMatchObject({ code: 'clock_in_doubt' });
});

test('a start with a clock far ahead deletes nothing for its age within a day, nor do later starts', async () => {
  await using engine = await openTestEngine();
  const { clock } = engine;
  const kept = async (): Promise<number[]> => {
    const rows = await engine.sql(
      `
      select (select count(*) from idempotency where key_id = ?) as answers,
        (select count(*) from token_revocations where key_id = ?) as revoked`,
      first.apiKey.id,
      first.apiKey.id,
    );
    return [Number(rows[0]?.['answers']), Number(rows[0]?.['revoked'])];
  };
  /** Less than half an hour, in which what is old would be deleted. */
  const work = async (auth: PantheonAuth): Promise<void> => {
    await untilRuns(clock, [auth], 'answer-retention', 2);
    await untilRuns(clock, [auth], 'token-revocation-retention', 1);
  };
  const first = await engine.auth.keys.create(INPUT, { idempotencyKey: 'first' });
  const token = { tenantId: 'default', keyId: first.apiKey.id, tokenId: 'x', expiresAt: clock.now() };
  await engine.auth.tokens.revoke(token);
  await engine.auth.close();

  clock.advance(YEAR_MS);
  const ahead = await engine.openAgain();
  await work(ahead);
  expect(await kept()).toEqual([1, 1]);
  await ahead.close();
  // Beside the records of the start before it, this one is not ahead.
  clock.advance(HOUR_MS);
  const next = await engine.openAgain();
  await work(next);
  clock.advance(20 * HOUR_MS);
  await next.ping();
  await work(next);
  expect(await kept()).toEqual([1, 1]);
  clock.advance(3 * HOUR_MS);
  await next.ping();
  await work(next);
  expect(await kept()).toEqual([0, 0]);
}, 120_000);

test('checking whether the time is to be accepted keeps that guard as a start does, also on clocks with fractions', async () => {
  await using engine = await openTestEngine();
  const { clock } = engine;
  await engine.auth.close();
  clock.advance(YEAR_MS);
  // As the monotonic clock of a machine counts.
  const options = { clock: { now: () => clock.now(), monotonicMs: () => clock.monotonicMs() + 0.37 } };
  expect(await acceptClock({ ...engine.options, ...options })).toMatchObject({ isNeeded: false, done: null });
  expect(await engine.sql("select 1 from meta where name = 'aheadUntil'")).toHaveLength(1);
  for (let starts = 0; starts < 3; starts += 1) await (await engine.openAgain(options)).close();
});

test('once an operator has accepted the time, old rows are deleted again', async () => {
  await using engine = await openTestEngine();
  const { clock } = engine;
  await engine.auth.close();
  clock.advance(YEAR_MS);
  await (await engine.openAgain()).close();
  expect(await engine.sql("select 1 from meta where name = 'aheadUntil'")).toHaveLength(1);
  clock.setWall(start + HOUR_MS);
  await acceptClock({ ...engine.options, clock }, { apply: true });
  expect(await engine.sql("select 1 from meta where name = 'aheadUntil'")).toEqual([]);
});

test('a key that was changed at a wrong time is corrected, also if nodes with a right clock wrote after it', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const wrong = new TestClock(clock.now() + YEAR_MS);
  const ahead = await engine.openAgain({ clock: wrong });
  const { apiKey } = await ahead.keys.create({ ...INPUT, expiresIn: '1h' });
  await noticed([clock, wrong], [auth]);
  // Later in the log, and in time.
  await auth.keys.create(INPUT);
  const { done } = await acceptClock({ ...engine.options, clock }, { apply: true });
  expect(done).toMatchObject({ keysCorrected: 1, keysLeft: [] });
  await noticed([clock, wrong], [auth]);
  const { createdAt, expiresAt } = await auth.keys.get(apiKey.id);
  expect(Math.abs(createdAt.getTime() - clock.now())).toBeLessThan(CLOCK_DOUBT_MS);
  expect(Math.abs((expiresAt?.getTime() ?? 0) - clock.now() - HOUR_MS)).toBeLessThan(CLOCK_DOUBT_MS);
});

describe('a clock that jumps while a node runs', () => {
  test.each([
    ['ahead', YEAR_MS],
    ['back', -YEAR_MS],
  ])(
    '%s: no tokens are issued, keys are accepted, and events are dated by the time that has passed',
    async (_way, byMs) => {
      await using engine = await openTestEngine();
      const { auth, clock } = engine;
      const { key, apiKey } = await auth.keys.create({ ...INPUT, jwt: { algorithm: 'HS256' } });
      await auth.verify({ key });
      clock.setWall(clock.now() + byMs);
      clock.advance(SECOND_MS);
      expect(await codeOfKey(auth, key)).toBe('valid');
      for (const refused of [
        () => auth.tokens.exchange({ key }),
        () => auth.tokens.issue({ tenantId: 'default', keyId: apiKey.id }),
        async () =>
          auth.generator.generateJWTFromKey(
            apiKey,
            { keyId: apiKey.id, algorithm: 'HS256', issuer: 'i', audience: ['a'], customClaims: {} },
            key,
          ),
      ])
        expect(await refusalOf(refused())).toMatchObject({ code: 'clock_in_doubt', retryAfterSeconds: 5 });
      await auth.keys.suspend(apiKey.id);
      const { items } = await auth.events.list('default', { type: 'key.suspended' });
      expect(items.map(({ at }) => at)).toEqual([new Date(start + SECOND_MS)]);
      expect(engine.logged.join('\n')).toContain('the clock of this machine jumped');

      await auth.keys.resume(apiKey.id);
      clock.setWall(start + SECOND_MS);
      expect((await auth.tokens.exchange({ key })).issued).toBe(true);
    },
  );

  test('a key that has expired by the wall clock alone is neither accepted nor denied', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key } = await auth.keys.create({ ...INPUT, expiresIn: '1h' });
    const rotated = await auth.keys.create(INPUT);
    await auth.rotation.rotate(rotated.apiKey.id, { overlap: '1h' });
    const token = await tokenOf(auth, (await auth.keys.create(INPUT)).key);
    clock.setWall(clock.now() + DAY_MS);
    clock.advance(MINUTE_MS);
    for (const ask of [
      () => auth.verify({ key }),
      () => auth.verify({ key: rotated.key }),
      () => auth.tokens.verify({ token }),
    ])
      expect(await refusalOf(ask())).toMatchObject({ code: 'clock_in_doubt' });
    // What has ended by both is dead.
    clock.advance(HOUR_MS);
    expect(await codeOfKey(auth, key)).toBe('expired');
  });

  test('an event of another node with a date far ahead does not move the clock of this node', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key } = await auth.keys.create({ ...INPUT, expiresIn: '1d' });
    const wrong = new TestClock(clock.now() + YEAR_MS);
    const ahead = await engine.openAgain({ clock: wrong });
    await ahead.keys.create(INPUT);
    await noticed([clock, wrong], [auth]);
    expect(await codeOfKey(auth, key)).toBe('valid');
    expect(await refusalOf(auth.tokens.exchange({ key }))).toMatchObject({ code: 'clock_in_doubt' });

    // The operator stops what is wrong, or forgets to, and accepts: every node goes on from the right time.
    await acceptClock({ ...engine.options, clock }, { apply: true });
    await noticed([clock, wrong], [auth, ahead]);
    expect((await auth.tokens.exchange({ key })).issued).toBe(true);
    const { apiKey } = await ahead.keys.create(INPUT);
    expect(Math.abs(apiKey.createdAt.getTime() - clock.now())).toBeLessThan(CLOCK_DOUBT_MS);
  });
});
