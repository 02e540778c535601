import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { QuotaRule, RateLimitRule } from '../../domain/limits.ts';
import type { Clock } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { LimitDecision, LimitRequest, QuotaLease, QuotaLedger } from '../rate-limiter.ts';
import { LEASE_IDLE_MS } from './accounts.ts';
import { MemoryLimiter } from './memory-limiter.ts';

class TestClock implements Clock {
  wall = Date.parse('2026-11-22T12:00:00Z');
  mono = -12_345.678;
  now(): number {
    return this.wall;
  }
  monotonicMs(): number {
    return this.mono;
  }
}

class MemoryLedger implements QuotaLedger {
  readonly reserved = new Map<string, number>();
  asked = 0;
  failure: Error | null = null;
  onAsked: () => void = () => undefined;

  async reserve({ keyId, period, limit }: QuotaLease, units: number): Promise<{ granted: number; left: number }> {
    this.asked += 1;
    this.onAsked();
    await Promise.resolve();
    if (this.failure !== null) throw this.failure;
    const before = this.of(keyId, period);
    const granted = Math.min(units, limit - before);
    this.reserved.set(`${keyId} ${period}`, before + granted);
    return { granted, left: limit - before - granted };
  }

  async release({ keyId, period }: QuotaLease, units: number): Promise<void> {
    this.reserved.set(`${keyId} ${period}`, this.of(keyId, period) - units);
  }

  of(keyId: string, period: string): number {
    return this.reserved.get(`${keyId} ${period}`) ?? 0;
  }
}

const rule = (name: string, limit: number, windowSeconds: number): RateLimitRule => ({ name, limit, windowSeconds });
const daily = (limit: number): QuotaRule => ({ limit, period: 'day' });

function setUp(options: { bytesMax?: number } = {}) {
  const clock = new TestClock();
  const quotaLedger = new MemoryLedger();
  const limiter = new MemoryLimiter({ clock, quotaLedger, ...options });
  const request = (overrides: Partial<LimitRequest>): LimitRequest => {
    return { createdAt: 0, tenantId: 't', keyId: 'k', rules: [], quota: null, cost: 1, ...overrides };
  };
  const decide = async (overrides: Partial<LimitRequest>): Promise<LimitDecision> => limiter.decide(request(overrides));
  /** Keys of a tenant, until no other one is counted. */
  const fill = async (tenantId: string, rules: readonly RateLimitRule[]): Promise<readonly string[]> => {
    for (const keys: string[] = []; ; keys.push(`${tenantId} ${keys.length}`)) {
      try {
        await decide({ tenantId, keyId: `${tenantId} ${keys.length}`, rules });
      } catch (error) {
        expect(error).toMatchObject({ code: 'limiter_unavailable' });
        return keys;
      }
    }
  };
  const today = (): number => quotaLedger.of('k', '2026-11-22');
  return { clock, quotaLedger, limiter, request, decide, fill, today };
}

const admittedOf = (decisions: readonly LimitDecision[]): number => decisions.filter(({ admitted }) => admitted).length;

describe('rate limits', () => {
  test('a key without limits is admitted, with no limit in the answer', async () => {
    expect(await setUp().decide({})).toEqual({ admitted: true, limits: [], degraded: false });
  });

  test('the answer is synchronous, and contains what remains', () => {
    const { limiter, request } = setUp();
    expect(limiter.decide(request({ rules: [rule('burst', 3, 60)], cost: 2 }))).toEqual({
      admitted: true,
      limits: [{ kind: 'rate', name: 'burst', limit: 3, remaining: 1, resetSeconds: 60, windowSeconds: 60 }],
      degraded: false,
    });
  });

  test('several limits hold in every window of each, for any requests, and no denial consumes', async () => {
    const step = fc.tuple(
      fc.oneof(fc.constantFrom(0, 999, 1_000, 1_001, 9_999, 10_000), fc.nat({ max: 400 })),
      fc.nat({ max: 3 }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 12 }),
        fc.array(step, { maxLength: 150 }),
        async (short, long, steps) => {
          const { clock, decide } = setUp();
          const rules = [rule('short', short, 1), rule('long', long, 10)];
          const log: { atMs: number; cost: number }[] = [];
          const sumSince = (ms: number): number =>
            log.reduce((sum, { atMs, cost }) => (clock.mono - atMs < ms ? sum + cost : sum), 0);
          for (const [advanceMs, cost] of steps) {
            clock.mono += advanceMs;
            const decision = await decide({ rules, cost });
            const fitsExactly = (ms: number, limit: number): boolean => sumSince(ms) + cost <= limit;
            if (decision.admitted) log.push({ atMs: clock.mono, cost });
            else expect(fitsExactly(1_000, short) && fitsExactly(10_000, long)).toBe(false);
            expect(sumSince(1_000)).toBeLessThanOrEqual(short);
            expect(sumSince(10_000)).toBeLessThanOrEqual(long);
            for (const { remaining, limit } of decision.limits) {
              expect(remaining).toBeGreaterThanOrEqual(0);
              expect(remaining).toBeLessThanOrEqual(limit);
            }
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  test('of a thousand requests at once against a limit of a hundred, exactly a hundred are admitted', async () => {
    const { decide } = setUp();
    const rules = [rule('burst', 100, 60)];
    const decisions = await Promise.all(Array.from({ length: 1_000 }, () => decide({ rules })));
    expect(admittedOf(decisions)).toBe(100);
  });

  test('a burst at the end of a window and another at the start of the next count together', async () => {
    const { clock, decide } = setUp();
    const rules = [rule('burst', 5, 60)];
    clock.mono += 59_999;
    expect(await decide({ rules, cost: 5 })).toMatchObject({ admitted: true });
    clock.mono += 2;
    expect(await decide({ rules })).toMatchObject({ admitted: false, violated: ['burst'] });
  });

  test('a denial names every exceeded limit, and the time until the last of them allows the request', async () => {
    const { decide } = setUp();
    const rules = [rule('a', 2, 10), rule('b', 9, 60), rule('c', 2, 3_600)];
    await decide({ rules, cost: 2 });
    const denied = await decide({ rules });
    expect(denied).toMatchObject({
      admitted: false,
      code: 'rate_limited',
      violated: ['a', 'c'],
      retryAfterSeconds: 3_600,
    });
    expect(denied.limits.map(({ remaining }) => remaining)).toEqual([0, 7, 0]);
  });

  test('a cost above a limit is always denied, with the length of the window as the time to wait', async () => {
    const denied = await setUp().decide({ rules: [rule('burst', 5, 60)], cost: 6 });
    expect(denied).toMatchObject({ admitted: false, code: 'rate_limited', retryAfterSeconds: 60 });
  });

  test('cost 0 only checks, and is never denied', async () => {
    const { decide } = setUp();
    const rules = [rule('burst', 1, 60)];
    for (const remaining of [1, 1]) expect(await decide({ rules, cost: 0 })).toMatchObject({ limits: [{ remaining }] });
    await decide({ rules });
    expect(await decide({ rules, cost: 0 })).toMatchObject({ admitted: true, limits: [{ remaining: 0 }] });
  });

  test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])(
    'a cost of %s is an error of the caller',
    (cost) => {
      const { limiter, request } = setUp();
      expect(() => limiter.decide(request({ cost }))).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    },
  );

  test('keys do not affect each other', async () => {
    const { decide } = setUp();
    const rules = [rule('burst', 1, 60)];
    for (const keyId of ['k1', 'k2']) expect(await decide({ keyId, rules })).toMatchObject({ admitted: true });
    expect(await decide({ keyId: 'k1', rules })).toMatchObject({ admitted: false });
  });

  test('setting the wall clock moves no window', async () => {
    const { clock, decide } = setUp();
    const rules = [rule('burst', 1, 60)];
    await decide({ rules });
    for (const jump of [300_000, -600_000, 86_400_000]) {
      clock.wall += jump;
      expect(await decide({ rules })).toMatchObject({ admitted: false, retryAfterSeconds: 60 });
    }
    clock.mono += 60_000;
    expect(await decide({ rules })).toMatchObject({ admitted: true });
  });
});

describe('changed rules', () => {
  test('the same window keeps its counts under another limit', async () => {
    const { decide } = setUp();
    await decide({ rules: [rule('burst', 10, 60)], cost: 8 });
    expect(await decide({ rules: [rule('burst', 5, 60)] })).toMatchObject({
      admitted: false,
      limits: [{ remaining: 0 }],
    });
    expect(await decide({ rules: [rule('burst', 20, 60)] })).toMatchObject({
      admitted: true,
      limits: [{ remaining: 11 }],
    });
  });

  test('neither another name nor another window restores used units', async () => {
    const { decide } = setUp();
    await decide({ rules: [rule('burst', 10, 60)], cost: 8 });
    expect(await decide({ rules: [rule('other', 10, 60)], cost: 3 })).toMatchObject({ admitted: false });
    expect(await decide({ rules: [rule('other', 10, 120), rule('more', 10, 30)], cost: 3 })).toMatchObject({
      violated: ['other', 'more'],
    });
  });
});

describe('a quota with rate limits', () => {
  test('a request that a rate limit denies costs no quota and no read of it, and one that the quota denies costs no rate limit', async () => {
    const { decide, quotaLedger, today } = setUp();
    const rules = [rule('burst', 2, 60)];
    expect(await decide({ rules, quota: daily(50), cost: 3 })).toMatchObject({
      code: 'rate_limited',
      violated: ['burst'],
    });
    expect(quotaLedger.asked).toBe(0);
    expect(await decide({ rules, quota: daily(50) })).toMatchObject({ limits: [{ remaining: 1 }, { remaining: 49 }] });
    expect(await decide({ rules, quota: daily(1) })).toMatchObject({
      code: 'quota_exceeded',
      violated: ['quota'],
      retryAfterSeconds: 43_200,
    });
    expect(await decide({ rules, cost: 0 })).toMatchObject({ limits: [{ remaining: 1 }] });
    expect(today()).toBe(1);
  });

  test('if both deny, both are named and the quota decides the code', async () => {
    const { decide } = setUp();
    const limits = { rules: [rule('burst', 1, 60)], quota: daily(1) };
    await decide(limits);
    await decide({ ...limits, rules: [], cost: 1 });
    expect(await decide({ ...limits, rules: [rule('tiny', 0, 60)] })).toMatchObject({
      code: 'quota_exceeded',
      violated: ['tiny', 'quota'],
    });
  });

  test('a reserved block is spent without waiting', async () => {
    const { decide, limiter, request, quotaLedger } = setUp();
    await decide({ quota: daily(1_000) });
    expect(limiter.decide(request({ quota: daily(1_000) }))).toMatchObject({
      admitted: true,
      limits: [{ remaining: 998 }],
    });
    expect(quotaLedger.asked).toBe(1);
  });

  test('of two hundred requests at once against a quota of one, exactly one is admitted', async () => {
    const { decide, today, quotaLedger } = setUp();
    const decisions = await Promise.all(Array.from({ length: 200 }, () => decide({ quota: daily(1) })));
    expect(admittedOf(decisions)).toBe(1);
    expect(today()).toBe(1);
    expect(quotaLedger.asked).toBe(2);
  });

  test('of a thousand at once against a quota and a rate limit, exactly the smaller is admitted, and no more of either is used', async () => {
    const { decide, limiter, today } = setUp();
    const rules = [rule('burst', 100, 60)];
    const decisions = await Promise.all(Array.from({ length: 1_000 }, () => decide({ rules, quota: daily(300) })));
    expect(admittedOf(decisions)).toBe(100);
    await limiter.close();
    expect(today()).toBe(100);
  });

  test('two limiters on one ledger never grant more than the quota, and grant all of it', async () => {
    const { decide, clock, quotaLedger, request } = setUp();
    const second = new MemoryLimiter({ clock, quotaLedger });
    const decisions = await Promise.all(
      Array.from({ length: 400 }, async (_, nth) =>
        nth % 2 === 0 ? decide({ quota: daily(90) }) : second.decide(request({ quota: daily(90) })),
      ),
    );
    expect(admittedOf(decisions)).toBe(90);
  });

  test('the next day has a new quota, and the windows continue', async () => {
    const { decide, clock } = setUp();
    const rules = [rule('burst', 2, 60)];
    await decide({ rules, quota: daily(1) });
    clock.wall += 43_200_000;
    expect(await decide({ rules, quota: daily(1) })).toMatchObject({
      admitted: true,
      limits: [{ remaining: 0 }, { remaining: 0 }],
    });
  });

  test('a ledger that fails consumes nothing', async () => {
    const { decide, quotaLedger } = setUp();
    const limits = { rules: [rule('burst', 1, 60)], quota: daily(5) };
    quotaLedger.failure = new PantheonError('store_unavailable');
    await expect(decide(limits)).rejects.toMatchObject({ code: 'store_unavailable' });
    quotaLedger.failure = null;
    expect(await decide(limits)).toMatchObject({ admitted: true, limits: [{ remaining: 0 }, { remaining: 4 }] });
  });

  test('removing the quota of a key returns its block', async () => {
    const { decide, today } = setUp();
    await decide({ quota: daily(1_000) });
    expect(today()).toBe(10);
    await decide({ rules: [rule('burst', 1, 60)] });
    await Promise.resolve();
    expect(today()).toBe(1);
  });

  test('a request that never gets the block that was reserved for it is denied in the end', async () => {
    const { decide, clock, quotaLedger } = setUp();
    quotaLedger.onAsked = () => {
      clock.wall += 86_400_000;
    };
    await expect(decide({ quota: daily(5) })).rejects.toMatchObject({ code: 'limiter_unavailable' });
    expect(quotaLedger.asked).toBe(200);
    expect([...quotaLedger.reserved.values()].every((reserved) => reserved <= 1)).toBe(true);
  });
});

describe('memory', () => {
  const rules = [rule('burst', 1, 60)];

  test('idle keys are removed while new ones come', async () => {
    const { decide, clock, limiter } = setUp();
    let oneKey = 0;
    for (let nth = 0; nth < 10_000; nth += 1) {
      clock.mono += 1_000;
      await decide({ keyId: `key ${nth}`, rules });
      if (nth === 0) oneKey = limiter.bytesTracked;
    }
    expect(limiter.bytesTracked).toBeLessThan(150 * oneKey);
  });

  test('when all keys in memory are in use, a new key is denied, and no counter is removed', async () => {
    const { decide, clock, fill } = setUp({ bytesMax: 20_000 });
    const keys = await fill('t', rules);
    for (let nth = 0; nth < 3; nth += 1) {
      await expect(decide({ keyId: 'new', rules })).rejects.toMatchObject({
        code: 'limiter_unavailable',
        retryAfterSeconds: 1,
      });
    }
    for (const keyId of keys) expect(await decide({ keyId, rules })).toMatchObject({ admitted: false });
    clock.mono += 61_000;
    expect(await decide({ keyId: 'new', rules })).toMatchObject({ admitted: true });
  });

  test('one tenant leaves a quarter of the memory to others, and the counted bytes never exceed what it may use', async () => {
    const bytesMax = 200_000;
    const { decide, clock, limiter, fill } = setUp({ bytesMax });
    const large = await fill('large', rules);
    expect(limiter.bytesTracked).toBeLessThanOrEqual(bytesMax * 0.75);
    expect(limiter.bytesTracked).toBeGreaterThan(bytesMax * 0.7);
    for (let nth = 0; nth < large.length / 4; nth += 1)
      expect(await decide({ tenantId: 'small', keyId: `small ${nth}`, rules })).toMatchObject({ admitted: true });
    // What was counted still is, and what is idle makes room.
    for (const keyId of large)
      expect(await decide({ tenantId: 'large', keyId, rules })).toMatchObject({ admitted: false });
    clock.mono += 61_000;
    expect(await decide({ tenantId: 'large', keyId: 'new', rules })).toMatchObject({ admitted: true });
    expect(limiter.bytesTracked).toBeLessThan(bytesMax / 10);
  });

  test('a tenant with less than an even share is never denied because of others', async () => {
    const bytesMax = 200_000;
    const { decide, clock, limiter, fill } = setUp({ bytesMax });
    const large = await fill('large', rules);
    for (const tenantId of ['a', 'b', 'c', 'd', 'e', 'f', 'g'])
      for (let nth = 0; nth < large.length / 8; nth += 1)
        expect(await decide({ tenantId, keyId: `${tenantId} ${nth}`, rules })).toMatchObject({ admitted: true });
    expect(limiter.bytesTracked).toBeLessThanOrEqual(bytesMax);
    // What the large tenant used is not counted anew from nothing: where it was given up, the key waits for a window.
    const outcomes = await Promise.allSettled(large.map((keyId) => decide({ tenantId: 'large', keyId, rules })));
    const admitted = outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value.admitted);
    expect(admitted).toEqual([]);
    const givenUp = outcomes.find((outcome) => outcome.status === 'rejected');
    expect(givenUp?.reason).toMatchObject({ code: 'limiter_unavailable', retryAfterSeconds: 60 });
    clock.mono += 60_000;
    for (const keyId of large.slice(0, 10))
      expect(await decide({ tenantId: 'large', keyId, rules })).toMatchObject({ admitted: true });
  });

  test('a tenant that has less than an even share gets room also when the keys of the others come last', async () => {
    const { decide, clock } = setUp({ bytesMax: 16_000_000 });
    const long = [rule('long', 1, 3_600)];
    // Many tenants with less than an even share, before one that takes what is left.
    for (let nth = 0; nth < 5_000; nth += 1)
      await decide({ tenantId: `small ${nth % 50}`, keyId: `s ${nth}`, rules: long });
    for (let nth = 0; ; nth += 1)
      if ((await decide({ tenantId: 'large', keyId: `l ${nth}`, rules: long }).catch(() => null)) === null) break;
    for (let nth = 0; nth < 3_000; nth += 1) {
      clock.mono += 1;
      const keyId = `another ${nth}`;
      expect(await decide({ tenantId: `other ${nth % 500}`, keyId, rules: long })).toMatchObject({ admitted: true });
    }
    for (let nth = 0; nth < 5_000; nth += 1)
      expect(await decide({ tenantId: `small ${nth % 50}`, keyId: `s ${nth}`, rules: long, cost: 0 })).toMatchObject({
        admitted: true,
      });
  });

  test('a window in use gets room for more entries while there is some, and works without', async () => {
    const many = [rule('many', 100, 60)];
    const exact = setUp();
    const one = setUp({ bytesMax: 2_400 });
    for (let nth = 0; nth < 100; nth += 1) {
      for (const { clock, decide } of [exact, one]) {
        clock.mono += 100;
        expect(await decide({ rules: many })).toMatchObject({ admitted: true });
      }
    }
    expect(exact.limiter.bytesTracked).toBeGreaterThan(2 * one.limiter.bytesTracked);
    for (const { clock } of [exact, one]) clock.mono += 60_000 - 9_800;
    // The first uses have left; without room they leave together with later ones.
    expect(await exact.decide({ rules: many, cost: 0 })).toMatchObject({ limits: [{ remaining: 2 }] });
    expect(await one.decide({ rules: many, cost: 0 })).toMatchObject({ limits: [{ remaining: 0 }] });
    for (const { clock } of [exact, one]) clock.mono += 9_800;
    expect(await one.decide({ rules: many, cost: 0 })).toMatchObject({ limits: [{ remaining: 100 }] });
  });

  test('a window that is full of uses that have left it keeps its account, its limit and its memory', async () => {
    for (const entries of [7, 8, 9, 16, 32]) {
      const { decide, clock, limiter } = setUp();
      const limit = [rule('second', 40, 1)];
      await decide({ rules: limit, cost: 0 });
      for (let round = 0; round < 50; round += 1) {
        for (let nth = 0; nth < entries; nth += 1) {
          clock.mono += 1;
          await decide({ rules: limit });
        }
        clock.mono += 1_500;
        const decisions: LimitDecision[] = [];
        for (let nth = 0; nth < 50; nth += 1) decisions.push(await decide({ rules: limit }));
        expect(admittedOf(decisions)).toBe(40);
        clock.mono += 1_500;
      }
      // One account, and no more is accounted than a window of 40 uses can take.
      expect(limiter.bytesTracked).toBeLessThan(5_000);
    }
  });

  test('a rule that is removed and added again keeps its counts', async () => {
    const { decide, clock } = setUp();
    const day = [rule('day', 3, 86_400)];
    await decide({ rules: day, cost: 3 });
    await decide({ rules: [rule('minute', 5, 60)] });
    clock.mono += 3_600_000;
    await decide({ rules: [] });
    expect(await decide({ rules: [...day] })).toMatchObject({ admitted: false });
    clock.mono += 86_400_000 - 3_600_000;
    expect(await decide({ rules: [...day] })).toMatchObject({ admitted: true });
  });

  test('a key with more rules uses more memory', async () => {
    const { decide, limiter, clock } = setUp();
    await decide({ rules });
    const one = limiter.bytesTracked;
    await decide({ rules: [...rules, rule('second', 1, 60), rule('third', 1, 60)] });
    expect(limiter.bytesTracked).toBeGreaterThan(one * 1.5);
    clock.mono += 60_000;
    await decide({ rules: [...rules] });
    expect(limiter.bytesTracked).toBe(one);
  });

  test('a key in use that gets more rules takes no memory that is kept for others', async () => {
    const bytesMax = 400_000;
    const { decide, limiter } = setUp({ bytesMax });
    const hour = [rule('hour', 5, 3_600)];
    const counted: string[] = [];
    for (let nth = 0; ; nth += 1) {
      const keyId = `large ${nth}`;
      if ((await decide({ tenantId: 'large', keyId, rules: hour }).catch(() => null)) === null) break;
      counted.push(keyId);
    }
    const many = Array.from({ length: 8 }, (_, nth) => rule(`rule ${nth}`, 5, 3_600));
    const outcomes = await Promise.allSettled(
      counted.map((keyId) => decide({ tenantId: 'large', keyId, rules: many })),
    );
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'limiter_unavailable' });
    expect(outcomes.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0);
    expect(limiter.bytesTracked).toBeLessThanOrEqual(bytesMax * 0.75);
    expect(await decide({ tenantId: 'small', keyId: 'small', rules: many })).toMatchObject({ admitted: true });
    // Under its old rules such a key goes on, with its counts.
    expect(await decide({ tenantId: 'large', keyId: 'large 0', rules: hour, cost: 5 })).toMatchObject({
      admitted: false,
    });
  });

  test('counting a use that another limiter decided denies nothing for lack of memory', async () => {
    const { decide, limiter, request } = setUp({ bytesMax: 20_000 });
    let nth = 0;
    while ((await decide({ keyId: `key ${nth}`, rules: [rule('hour', 5, 3_600)] }).catch(() => null)) !== null)
      nth += 1;
    limiter.addDebt('key 0', 2);
    const more = request({ keyId: 'key 0', rules: Array.from({ length: 8 }, (_, at) => rule(`rule ${at}`, 5, 3_600)) });
    expect(() => limiter.mirror(more)).not.toThrow();
    expect(limiter.takePending(more)).toBeNull();
    // It is owed on.
    expect(limiter.takePending(request({ keyId: 'key 0', rules: [rule('hour', 5, 3_600)] }))).toMatchObject({
      units: 2,
    });
  });

  test('without free memory a bounded number of keys is checked at a time, and all of them in the end', async () => {
    const { decide, clock, fill } = setUp({ bytesMax: 16_000_000 });
    await decide({ keyId: 'idle', rules });
    const long = [rule('long', 1, 3_600)];
    expect((await fill('t', long)).length).toBeGreaterThan(6_000);
    clock.mono += 61_000;
    let refused = 0;
    while ((await decide({ keyId: 'new', rules: long }).catch(() => null)) === null) {
      refused += 1;
      clock.mono += 20;
    }
    expect(refused).toBeGreaterThan(0);
    expect(refused).toBeLessThan(10);
  });

  test('an idle key returns its block before it is removed', async () => {
    const { decide, clock, today } = setUp();
    await decide({ quota: daily(1_000) });
    const others = async (): Promise<void> => {
      for (let nth = 0; nth < 8; nth += 1) await decide({ keyId: `other ${nth}`, rules: [rule('long', 1, 3_600)] });
    };
    clock.mono += LEASE_IDLE_MS;
    await others();
    expect(today()).toBe(10);
    clock.mono += 2 * LEASE_IDLE_MS;
    for (let nth = 0; nth < 20; nth += 1) await decide({ keyId: `later ${nth}`, rules });
    await Promise.resolve();
    expect(today()).toBe(1);
  });
});

describe('the end', () => {
  test('close returns the unspent units of every key', async () => {
    const { decide, limiter, quotaLedger } = setUp();
    await decide({ keyId: 'a', quota: daily(1_000) });
    await decide({ keyId: 'b', quota: daily(1_000), cost: 3 });
    await decide({ keyId: 'c', rules: [rule('burst', 1, 60)] });
    await limiter.close();
    expect([...quotaLedger.reserved.values()]).toEqual([1, 3]);
    await expect(decide({ keyId: 'a', quota: daily(1_000) })).rejects.toMatchObject({ code: 'shutting_down' });
  });

  test('a crash loses reserved units that were not spent, and no more', async () => {
    const { decide, clock, quotaLedger, request } = setUp();
    for (let nth = 0; nth < 13; nth += 1) await decide({ quota: daily(1_000) });
    const restarted = new MemoryLimiter({ clock, quotaLedger });
    const decisions: LimitDecision[] = [];
    for (let nth = 0; nth < 1_000; nth += 1) decisions.push(await restarted.decide(request({ quota: daily(1_000) })));
    expect(admittedOf(decisions)).toBe(980);
  });
});

describe('beside a limiter where all nodes count together', () => {
  const rules = [rule('burst', 5, 60), rule('long', 50, 3_600)];

  test('a use that was admitted there is counted here without a decision, and counts in later decisions here', async () => {
    const { limiter, request, decide } = setUp();
    limiter.mirror(request({ rules, cost: 4 }));
    limiter.mirror(request({ rules, cost: 4 }));
    expect(await decide({ rules, cost: 0 })).toMatchObject({ limits: [{ remaining: 0 }, { remaining: 42 }] });
  });

  test('if no other key can be counted the use is not counted, and nothing is denied for it', () => {
    const { limiter, request } = setUp({ bytesMax: 3_000 });
    limiter.mirror(request({ rules }));
    const oneKey = limiter.bytesTracked;
    limiter.mirror(request({ rules, keyId: 'other' }));
    expect(limiter.bytesTracked).toBe(oneKey);
  });

  test('a debt is reported once, and for each rule only what it still counts', async () => {
    const { limiter, request, decide, clock } = setUp();
    expect(limiter.takePending(request({ rules }))).toBeNull();
    await decide({ rules, cost: 3 });
    limiter.addDebt('k', 3);
    clock.mono += 61_001;
    await decide({ rules });
    limiter.addDebt('k', 1);
    expect(limiter.takePending(request({ rules }))).toEqual({ units: 4, perRule: [1, 4] });
    expect(limiter.takePending(request({ rules }))).toBeNull();
  });

  test('a debt that no window counts any more is removed with its key', async () => {
    const { limiter, request, decide, clock } = setUp();
    await decide({ rules });
    limiter.addDebt('k', 1);
    clock.mono += 2 * 3_660_000;
    await decide({ keyId: 'other', rules });
    expect(limiter.takePending(request({ rules }))).toBeNull();
  });

  test('a quota is reserved first, and returned if it is not needed', async () => {
    const { limiter, request, today } = setUp();
    expect(await limiter.holdQuota(request({ rules }))).toBeNull();
    const held = await limiter.holdQuota(request({ quota: daily(2), cost: 2 }));
    expect(await limiter.holdQuota(request({ quota: daily(2) }))).toMatchObject({ hold: null });
    if (held?.hold !== null && held?.hold !== undefined) held.quota.giveBack(held.hold);
    expect(await limiter.holdQuota(request({ quota: daily(2), cost: 2 }))).toMatchObject({ hold: { units: 2 } });
    await limiter.close();
    expect(today()).toBe(2);
  });

  test('a request that never gets the block that was reserved for it holds nothing', async () => {
    const { limiter, request, clock, quotaLedger } = setUp();
    quotaLedger.onAsked = () => {
      clock.wall += 86_400_000;
    };
    await expect(limiter.holdQuota(request({ quota: daily(5) }))).rejects.toMatchObject({
      code: 'limiter_unavailable',
    });
  });
});
