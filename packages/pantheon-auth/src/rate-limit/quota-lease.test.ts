import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { QuotaRule } from '../domain/limits.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { ASK_AGAIN_MS, blockUnits, LeasedQuota, QuotaLeases } from './quota-lease.ts';
import type { QuotaLease, QuotaLedger } from './rate-limiter.ts';

class TestClock implements Clock {
  wall = Date.parse('2026-11-22T12:00:00Z');
  mono = 0;
  now(): number {
    return this.wall;
  }
  monotonicMs(): number {
    return this.mono;
  }
}

/** Counts as SQL does: one row per key and period. */
class MemoryLedger implements QuotaLedger {
  readonly reserved = new Map<string, number>();
  readonly asked: number[] = [];
  failure: unknown = null;
  /** Runs once while the next answer is on its way. */
  meanwhile: () => void = () => undefined;

  async reserve(lease: QuotaLease, units: number): Promise<{ granted: number; left: number }> {
    this.asked.push(units);
    await Promise.resolve();
    const { meanwhile } = this;
    this.meanwhile = () => undefined;
    meanwhile();
    if (this.failure !== null) throw this.failure;
    const before = this.of(lease);
    const granted = Math.max(0, Math.min(units, lease.limit - before));
    this.reserved.set(`${lease.keyId} ${lease.period}`, before + granted);
    return { granted, left: lease.limit - before - granted };
  }

  async release(lease: QuotaLease, units: number): Promise<void> {
    await Promise.resolve();
    if (this.failure !== null) throw this.failure;
    this.reserved.set(`${lease.keyId} ${lease.period}`, this.of(lease) - units);
  }

  of({ keyId, period }: { keyId: string; period: string }): number {
    return this.reserved.get(`${keyId} ${period}`) ?? 0;
  }
}

function setUp(rule: QuotaRule = { limit: 1_000, period: 'day' }) {
  const clock = new TestClock();
  const ledger = new MemoryLedger();
  const process = () => {
    const leases = new QuotaLeases(ledger, clock);
    return { leases, quota: new LeasedQuota(leases, { tenantId: 't', keyId: 'k' }, rule) };
  };
  const today = () => ledger.of({ keyId: 'k', period: '2026-11-22' });
  return { clock, ledger, rule, process, today, ...process() };
}

/** What a limiter does for one request. */
async function spend(quota: LeasedQuota, rule: QuotaRule, cost: number): Promise<boolean> {
  for (;;) {
    const status = quota.status(rule, cost);
    if (status === 'used_up') return false;
    if (status === 'enough') {
      quota.spend(cost);
      return true;
    }
    await quota.renew(cost);
  }
}

test('a block is a hundredth of the quota, at least one unit and at most a thousand', () => {
  expect([0, 1, 100, 101, 1_000, 100_000, 1e9].map(blockUnits)).toEqual([1, 1, 1, 2, 10, 1_000, 1_000]);
});

describe('spending', () => {
  test('a block is reserved once, then spent without the ledger', async () => {
    const { quota, rule, ledger, today } = setUp();
    for (let nth = 0; nth < 10; nth += 1) expect(await spend(quota, rule, 1)).toBe(true);
    expect(ledger.asked).toEqual([10]);
    expect(await spend(quota, rule, 1)).toBe(true);
    expect(today()).toBe(20);
    expect(quota.state()).toMatchObject({ kind: 'quota', limit: 1_000, remaining: 989, resetSeconds: 43_200 });
  });

  test('a request that costs more than a block reserves what is missing', async () => {
    const { quota, rule, ledger } = setUp();
    await spend(quota, rule, 4);
    expect(await spend(quota, rule, 500)).toBe(true);
    expect(ledger.asked).toEqual([10, 494]);
  });

  test('checking with cost 0 reserves nothing, and is answered also if the quota is used up', async () => {
    const { quota, rule, today } = setUp({ limit: 2, period: 'day' });
    expect(quota.state()).toBeNull();
    expect(await spend(quota, rule, 0)).toBe(true);
    expect(today()).toBe(0);
    expect(quota.state()).toMatchObject({ remaining: 2 });
    expect(await spend(quota, rule, 2)).toBe(true);
    expect(await spend(quota, rule, 1)).toBe(false);
    expect(await spend(quota, rule, 0)).toBe(true);
    expect(quota.state()).toMatchObject({ remaining: 0 });
  });

  test('a cost above the limit is denied without reserving anything', async () => {
    const { quota, rule, ledger, today } = setUp({ limit: 5, period: 'month' });
    expect(await spend(quota, rule, 6)).toBe(false);
    expect(await spend(quota, rule, 6)).toBe(false);
    expect(ledger.asked).toEqual([0]);
    expect(today()).toBe(0);
  });

  test('more than the reserved units cannot be spent', () => {
    expect(() => setUp().quota.spend(1)).toThrow('Invariant');
  });
});

describe('several processes on one ledger', () => {
  test('together they never grant more than the limit, and a single one grants all of it', async () => {
    const requests = fc.array(fc.tuple(fc.nat({ max: 2 }), fc.integer({ min: 1, max: 40 })), { maxLength: 120 });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 700 }), requests, async (limit, sequence) => {
        const { process, rule, today } = setUp({ limit, period: 'day' });
        const quotas = [process().quota, process().quota, process().quota];
        let granted = 0;
        for (const [which, cost] of sequence) {
          const quota = quotas[which];
          if (quota !== undefined && (await spend(quota, rule, cost))) granted += cost;
        }
        expect(granted).toBeLessThanOrEqual(limit);
        for (const quota of quotas) await quota.release();
        expect(today()).toBe(granted);
        const last = process().quota;
        while (granted < limit && (await spend(last, rule, 1))) granted += 1;
        expect(granted).toBe(limit);
      }),
      { numRuns: 60 },
    );
  });

  test('a crash loses reserved units that were not spent, and nothing else', async () => {
    const { process, rule } = setUp();
    const crashed = process().quota;
    for (let nth = 0; nth < 13; nth += 1) await spend(crashed, rule, 1);
    const next = process().quota;
    let granted = 0;
    while (await spend(next, rule, 1)) granted += 1;
    expect(granted).toBe(1_000 - 20);
  });

  test('a used-up quota is read once a second, so that units returned by another process are found', async () => {
    const { process, rule, clock, ledger } = setUp({ limit: 1, period: 'day' });
    const [holder, other] = [process().quota, process().quota];
    await holder.renew(1);
    for (let nth = 0; nth < 50; nth += 1) expect(await spend(other, rule, 1)).toBe(false);
    expect(ledger.asked).toHaveLength(2);
    await holder.release();
    clock.mono += ASK_AGAIN_MS - 1;
    expect(await spend(other, rule, 1)).toBe(false);
    clock.mono += 1;
    expect(await spend(other, rule, 1)).toBe(true);
    expect(ledger.asked).toHaveLength(3);
  });
});

describe('the start of a period', () => {
  test('starts a new quota, and unspent units are returned to the day they came from', async () => {
    const { quota, rule, clock, ledger, leases, today } = setUp();
    await spend(quota, rule, 1);
    clock.wall = Date.parse('2026-11-23T00:00:00Z');
    expect(await spend(quota, rule, 1)).toBe(true);
    await leases.settled();
    expect(today()).toBe(1);
    expect(ledger.of({ keyId: 'k', period: '2026-11-23' })).toBe(10);
  });

  test('makes a used-up quota available at once', async () => {
    const { quota, rule, clock } = setUp({ limit: 1, period: 'month' });
    expect(await spend(quota, rule, 1)).toBe(true);
    expect(await spend(quota, rule, 1)).toBe(false);
    expect(quota.secondsUntilTurn()).toBe(8.5 * 86_400);
    clock.wall += quota.secondsUntilTurn() * 1_000;
    expect(await spend(quota, rule, 1)).toBe(true);
  });

  test('is not repeated when a clock is set back', async () => {
    const { quota, rule, clock, ledger } = setUp({ limit: 1, period: 'day' });
    await spend(quota, rule, 1);
    clock.wall -= 2 * 86_400_000;
    clock.mono += ASK_AGAIN_MS;
    expect(await spend(quota, rule, 1)).toBe(false);
    expect([...ledger.reserved.keys()]).toEqual(['k 2026-11-22']);
  });

  test('during a read of the ledger waits for the answer and returns that block', async () => {
    const { quota, rule, clock, ledger, leases, today } = setUp();
    ledger.meanwhile = () => {
      clock.wall += 86_400_000;
      expect(quota.status(rule, 1)).toBe('renew');
    };
    expect(await spend(quota, rule, 1)).toBe(true);
    await leases.settled();
    expect(today()).toBe(0);
    expect(ledger.of({ keyId: 'k', period: '2026-11-23' })).toBe(10);
  });
});

describe('a changed rule', () => {
  test('lowers the limit for units that were reserved under the old one', async () => {
    const { quota, rule, process } = setUp({ limit: 1_000, period: 'day' });
    for (let nth = 0; nth < 5; nth += 1) await spend(quota, rule, 1);
    const lowered: QuotaRule = { limit: 7, period: 'day' };
    let granted = 5;
    while (await spend(quota, lowered, 1)) granted += 1;
    expect(granted).toBe(7);
    expect(await spend(process().quota, lowered, 1)).toBe(false);
  });

  test('to a quota by month counts separately from one by day', async () => {
    const { quota, rule, ledger } = setUp({ limit: 1, period: 'day' });
    await spend(quota, rule, 1);
    expect(await spend(quota, { limit: 1, period: 'month' }, 1)).toBe(true);
    expect(ledger.of({ keyId: 'k', period: '2026-11' })).toBe(1);
  });

  test('does not make requests under the old and the new rule wait for each other', async () => {
    const { quota, rule, ledger } = setUp();
    const other: QuotaRule = { limit: 50, period: 'day' };
    const answers = Array.from({ length: 20 }, (_, nth) => spend(quota, nth % 2 === 0 ? rule : other, 1));
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 20 }, () => true));
    expect(ledger.asked.length).toBeLessThanOrEqual(20);
  });
});

describe('when the ledger fails', () => {
  test('its error is passed on, and the quota is not taken for used up', async () => {
    const { quota, rule, ledger } = setUp();
    ledger.failure = new PantheonError('store_full');
    await expect(spend(quota, rule, 1)).rejects.toBe(ledger.failure);
    ledger.failure = null;
    expect(await spend(quota, rule, 1)).toBe(true);
  });

  test('an error of another kind is reported as limits that cannot be decided, with its cause', async () => {
    const { quota, rule, ledger } = setUp();
    ledger.failure = new Error('disk');
    await expect(spend(quota, rule, 1)).rejects.toMatchObject({ code: 'limiter_unavailable', cause: ledger.failure });
  });

  test('a ledger that grants more than was requested is refused', async () => {
    const { clock } = setUp();
    const generous: QuotaLedger = { reserve: async () => ({ granted: 1e6, left: 0 }), release: async () => undefined };
    const rule: QuotaRule = { limit: 10, period: 'day' };
    const quota = new LeasedQuota(new QuotaLeases(generous, clock), { tenantId: 't', keyId: 'k' }, rule);
    await expect(spend(quota, rule, 1)).rejects.toMatchObject({ code: 'limiter_unavailable' });
  });

  test('units that could not be returned are lost, and the next block is still reserved', async () => {
    const { quota, rule, ledger, today } = setUp();
    await spend(quota, rule, 1);
    ledger.failure = new Error('disk');
    await quota.release();
    ledger.failure = null;
    expect(await spend(quota, rule, 1)).toBe(true);
    expect(today()).toBe(20);
  });
});

describe('the end', () => {
  test('returns unspent units, also those of a renewal in progress', async () => {
    const { quota, rule, today } = setUp();
    await spend(quota, rule, 3);
    const renewal = quota.renew(400);
    expect(quota.isSettled).toBe(false);
    await quota.release();
    await renewal;
    expect(quota.isSettled).toBe(true);
    expect(today()).toBe(3);
  });

  test('after which nothing more is reserved', async () => {
    const { quota, rule, leases, ledger } = setUp();
    leases.stop();
    await expect(spend(quota, rule, 1)).rejects.toMatchObject({ code: 'shutting_down' });
    expect(ledger.asked).toEqual([]);
  });
});

describe('units that are held', () => {
  test('return to their lease, and can be spent again', async () => {
    const { quota, rule } = setUp({ limit: 5, period: 'day' });
    await quota.renew(5);
    expect(quota.status(rule, 5)).toBe('enough');
    const hold = quota.hold(5);
    expect(quota.state()).toMatchObject({ remaining: 0 });
    quota.giveBack(hold);
    expect(quota.state()).toMatchObject({ remaining: 5 });
    expect(quota.status(rule, 5)).toBe('enough');
  });

  test('of a lease that has ended return to where they were reserved, and not to the next one', async () => {
    const { quota, rule, clock, ledger, leases, today } = setUp({ limit: 5, period: 'day' });
    await quota.renew(5);
    quota.status(rule, 5);
    const hold = quota.hold(5);
    clock.wall += 86_400_000;
    expect(quota.status(rule, 1)).toBe('renew');
    await quota.renew(5);
    quota.giveBack(hold);
    await leases.settled();
    expect(today()).toBe(0);
    expect(ledger.of({ keyId: 'k', period: '2026-11-23' })).toBe(5);
    expect(quota.state()).toMatchObject({ remaining: 5 });
  });
});
