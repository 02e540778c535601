import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { PantheonError } from '../foundation/errors.ts';
import { ISSUED_AHEAD_MAX_MS, type OfflineTokens, UPDATES_READ_MAX } from '../jwt/offline-tokens.ts';
import { TestClock } from '../testing/test-clock.ts';
import {
  type Changed,
  PROPAGATION_MARGIN_MS,
  PROPAGATIONS_WAITING_MAX,
  Propagation,
  type Settled,
} from './propagation.ts';

const STALENESS_MAX_MS = 1_000;
const WAIT_MS = STALENESS_MAX_MS + PROPAGATION_MARGIN_MS;
const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

describe('the wait', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => void vi.useRealTimers());

  function setUp(endOf: OfflineTokens['endOf'] = async () => null) {
    const clock = new TestClock();
    const tokens = { endOf } as OfflineTokens;
    const propagation = new Propagation({ stalenessMaxMs: STALENESS_MAX_MS, clock, tokens });
    const passes = async (ms: number): Promise<void> => {
      clock.advance(ms);
      await vi.advanceTimersByTimeAsync(100);
    };
    return { clock, propagation, passes };
  }
  const changed = (answer: object = { name: 'a' }): Promise<Changed<object>> =>
    Promise.resolve({ answer, record: null });
  const isOver = async (work: Promise<unknown>): Promise<boolean> => {
    let isDone = false;
    void work.finally(() => {
      isDone = true;
    });
    await vi.advanceTimersByTimeAsync(0);
    return isDone;
  };

  test('ends no sooner than the bound and its margin after the commit, by the monotonic clock', async () => {
    const { clock, propagation, passes } = setUp();
    const commit = Promise.withResolvers<Changed<object>>();
    const settling = propagation.waitFor('t', () => commit.promise);
    await passes(10_000);
    commit.resolve({ answer: { name: 'a' }, record: null });
    await passes(0);
    clock.setWall(clock.now() + 3_600_000);
    await passes(WAIT_MS - 1);
    expect(await isOver(settling)).toBe(false);
    await passes(1);
    expect(await settling).toEqual({ name: 'a', settledAt: new Date(clock.now()), offlineUntil: null });
  });

  test('of many requests uses one timer, and each waits as long as it must', async () => {
    const { propagation, passes } = setUp();
    const first = [propagation.waitFor('t', changed), propagation.waitFor('t', changed)];
    await passes(0);
    await passes(500);
    const second = propagation.waitFor('t', changed);
    await passes(0);
    expect(vi.getTimerCount()).toBe(1);
    await passes(WAIT_MS - 500);
    expect(await Promise.all(first.map(isOver))).toEqual([true, true]);
    expect(await isOver(second)).toBe(false);
    await passes(500);
    expect(await isOver(second)).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('does not happen for a change that fails, which takes no place among those that wait', async () => {
    const { propagation } = setUp();
    const failed = new PantheonError('outcome_unknown');
    for (let n = 0; n <= PROPAGATIONS_WAITING_MAX; n += 1)
      await expect(propagation.waitFor('t', () => Promise.reject(failed))).rejects.toBe(failed);
  });

  test('has a maximum number: beyond it a change is made and answered at once', async () => {
    const { propagation, passes } = setUp();
    const waiting = Array.from({ length: PROPAGATIONS_WAITING_MAX }, (_, n) =>
      propagation.waitFor(`tenant ${n % 10}`, changed),
    );
    const change = vi.fn(changed);
    expect(await propagation.waitFor('t', change)).toEqual({ name: 'a' });
    expect(change).toHaveBeenCalledOnce();
    await passes(0);
    await passes(WAIT_MS);
    await Promise.all(waiting);
    const next = propagation.waitFor('t', change);
    await passes(0);
    await passes(WAIT_MS);
    expect(await next).toHaveProperty('settledAt');
  });

  test('of one tenant uses at most three quarters of that number', async () => {
    const { propagation, passes } = setUp();
    const share = (3 / 4) * PROPAGATIONS_WAITING_MAX;
    const waiting = Array.from({ length: share }, () => propagation.waitFor('large', changed));
    expect(await propagation.waitFor('large', changed)).toEqual({ name: 'a' });
    const other = propagation.waitFor('small', changed);
    await passes(0);
    await passes(WAIT_MS);
    await Promise.all(waiting);
    expect(await other).toHaveProperty('settledAt');
  });

  test('ends when the node stops: the answer does not say that the change has settled', async () => {
    const { propagation, passes } = setUp();
    const waiting = propagation.waitFor('t', changed);
    await passes(10);
    propagation.close();
    expect(await waiting).toEqual({ name: 'a' });
    expect(await propagation.waitFor('t', changed)).toEqual({ name: 'a' });
    expect(vi.getTimerCount()).toBe(0);
  });
});

/** Lets time pass until it is there. */
async function settled<T>({ clock }: TestEngine, work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  done.catch(() => {});
  while (!isDone) {
    clock.advance(25);
    await new Promise((next) => void setTimeout(next, 1));
  }
  return done;
}

const HS256 = { jwt: { algorithm: 'HS256', audience: ['https://api.example'] } } as const;

describe('every change', () => {
  test('answers when it holds on every node; without settle it answers at once and does not say so', async () => {
    await using engine = await openTestEngine();
    const { keys, rotation } = engine.auth;
    const { id } = (await keys.create(INPUT)).apiKey;
    const changes: Readonly<Record<string, (options: { settle?: boolean }) => Promise<object>>> = {
      update: (options) => keys.update(id, { name: 'other' }, options),
      'update that changes nothing': (options) => keys.update(id, { name: 'other' }, options),
      suspend: (options) => keys.suspend(id, options),
      resume: (options) => keys.resume(id, options),
      rotate: (options) => rotation.rotate(id, {}, options),
      retire: (options) => rotation.retire(id, 1, options),
      revoke: (options) => keys.revoke(id, options),
      'revoke again': (options) => keys.revoke(id, { ...options, cascade: true }),
    };
    for (const [name, change] of Object.entries(changes)) {
      const begun = engine.clock.monotonicMs();
      const answer = await settled(engine, change({ settle: true }));
      expect(engine.clock.monotonicMs() - begun, name).toBeGreaterThanOrEqual(WAIT_MS);
      expect(answer, name).toMatchObject({ settledAt: expect.any(Date), offlineUntil: expect.any(Date) });
    }
    const { id: next } = (await keys.create(INPUT)).apiKey;
    const answers = [
      await keys.update(next, { name: 'other' }),
      await keys.suspend(next, { settle: false }),
      await keys.resume(next),
      await rotation.rotate(next),
      await rotation.retire(next, 1),
      await keys.revoke(next),
    ];
    for (const answer of answers) {
      expect(answer).not.toHaveProperty('settledAt');
      expect(answer).not.toHaveProperty('offlineUntil');
    }
  });

  test('throws the same error with settle as without, at once', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    expect((await refusalOf(auth.keys.revoke('NeverMadeNeverMa', { settle: true }))).code).toBe('not_found');
    expect((await refusalOf(auth.rotation.retire('NeverMadeNeverMa', 1, { settle: true }))).code).toBe('not_found');
  });

  test('is answered when the process stops', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = (await auth.keys.create(INPUT)).apiKey;
    const suspended = auth.keys.suspend(id, { settle: true });
    while ((await auth.keys.get(id)).state === 'active') await new Promise(setImmediate);
    await auth.close();
    expect(await suspended).toMatchObject({ state: 'suspended' });
    expect(await suspended).not.toHaveProperty('settledAt');
  });
});

describe('what an offline verifier may accept', () => {
  const lifeOf = async (engine: TestEngine, id: string): Promise<number> => {
    const { settledAt, offlineUntil } = await settled(engine, engine.auth.keys.revoke(id, { settle: true }));
    if (!settledAt || !offlineUntil) throw new Error('not settled');
    return offlineUntil.getTime() - settledAt.getTime() - ISSUED_AHEAD_MAX_MS;
  };

  test('nothing later: no token that can be issued until a change has settled expires after it', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    for (const input of [
      {},
      { expiresIn: '2m' },
      { jwt: { algorithm: 'ES256', ttl: '1h' } },
      { rotation: { overlap: '10m' } },
    ] as const) {
      const { key, apiKey } = await auth.keys.create({ ...INPUT, ...input });
      const ends: number[] = [];
      const issue = async (): Promise<void> => {
        const exchange = await auth.tokens.exchange({ key });
        if (exchange.issued) ends.push(exchange.token.expiresAt);
      };
      await issue();
      await auth.tokens.revokeAllOf({ tenantId: 'default', keyId: apiKey.id });
      await issue();
      const isRotated = 'rotation' in input;
      const change = isRotated
        ? auth.rotation.rotate(apiKey.id, {}, { settle: true })
        : auth.keys.revoke(apiKey.id, { settle: true });
      const { offlineUntil } = await settled<Settled>(engine, change);
      // The version that was rotated out goes on for its overlap.
      for (let n = 0; isRotated && n < 10; n += 1) {
        clock.advance(59_000);
        await issue();
      }
      expect(Math.max(...ends)).toBeLessThanOrEqual(offlineUntil?.getTime() ?? 0);
    }
  });

  test('as long as the policy allows a token, and no longer than the key was valid', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const made = async (input: object): Promise<string> => (await auth.keys.create({ ...INPUT, ...input })).apiKey.id;
    expect(await lifeOf(engine, await made({}))).toBe(300_000);
    expect(await lifeOf(engine, await made({ jwt: { algorithm: 'Ed25519', ttl: '30m' } }))).toBe(1_800_000);
    const expiresAt = new Date(clock.now() + 60_000);
    const id = await made({ expiresAt: expiresAt.toISOString() });
    const { offlineUntil } = await settled(engine, auth.keys.revoke(id, { settle: true }));
    expect(offlineUntil).toEqual(expiresAt);
  });

  test('null if only this service verifies the tokens of the key', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = (await auth.keys.create({ ...INPUT, ...HS256 })).apiKey;
    const suspended = await settled(engine, auth.keys.suspend(id, { settle: true }));
    expect(suspended).toMatchObject({ settledAt: expect.any(Date), offlineUntil: null });
  });

  test('the policy of an hour ago counts, whatever it is now', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { id } = (await auth.keys.create({ ...INPUT, jwt: { algorithm: 'ES256', ttl: '1h' } })).apiKey;
    await auth.keys.update(id, { jwt: { algorithm: 'HS256', ttl: '5m' }, expiresIn: '5m' });
    clock.advance(1_800_000);
    const { settledAt, offlineUntil } = await settled(engine, auth.keys.suspend(id, { settle: true }));
    expect(Number(offlineUntil) - Number(settledAt)).toBe(3_600_000 + ISSUED_AHEAD_MAX_MS);
    clock.advance(7_200_000);
    expect(await settled(engine, auth.keys.suspend(id, { settle: true }))).toMatchObject({ offlineUntil: null });
  });

  test('the longest possible time if it cannot be known: too many changes, a cascade', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = (await auth.keys.create({ ...INPUT, ...HS256 })).apiKey;
    for (let n = 0; n <= UPDATES_READ_MAX; n += 1) await auth.keys.update(id, { name: `name ${n}` });
    expect(await lifeOf(engine, id)).toBe(3_600_000);
    const { id: parent } = (await auth.keys.create({ ...INPUT, ...HS256 })).apiKey;
    const { settledAt, offlineUntil } = await settled(
      engine,
      auth.keys.revoke(parent, { settle: true, cascade: true }),
    );
    expect(Number(offlineUntil) - Number(settledAt)).toBe(3_600_000 + ISSUED_AHEAD_MAX_MS);
  });
});
