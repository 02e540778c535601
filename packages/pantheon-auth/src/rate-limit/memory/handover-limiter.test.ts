import { expect, test } from 'vitest';
import { TestClock } from '../../testing/test-clock.ts';
import type { LimitRequest, QuotaLease, QuotaLedger } from '../rate-limiter.ts';
import { HandoverLimiter } from './handover-limiter.ts';
import { MemoryLimiter } from './memory-limiter.ts';

const rule = (limit: number) => ({ name: 'burst', limit, windowSeconds: 60 });

/** A quota that all nodes of a test take from. */
function ledgerOfOneQuota(): QuotaLedger {
  let reserved = 0;
  return {
    async reserve({ limit }: QuotaLease, units: number) {
      const granted = Math.min(units, limit - reserved);
      reserved += granted;
      return { granted, left: limit - reserved };
    },
    async release(_lease, units) {
      reserved -= units;
    },
  };
}

function node(clock = new TestClock(), quotaLedger = ledgerOfOneQuota()) {
  const count = { nodes: 1 };
  const memory = new MemoryLimiter({ clock, quotaLedger });
  const limiter = new HandoverLimiter({ memory, nodeCount: () => count.nodes });
  const decide = (over: Partial<LimitRequest> = {}) =>
    limiter.decide({ createdAt: 0, tenantId: 't', keyId: 'k', rules: [rule(10)], quota: null, cost: 1, ...over });
  return { count, limiter, decide, clock };
}

/** How many of so many uses, one by one, are admitted. */
async function admittedOf(uses: number, decide: ReturnType<typeof node>['decide'], over: Partial<LimitRequest> = {}) {
  let admitted = 0;
  for (let use = 0; use < uses; use += 1) if ((await decide(over)).admitted) admitted += 1;
  return admitted;
}

test('the only node admits the whole limit, at once, and is not degraded', async () => {
  const { decide, limiter } = node();
  expect(decide({ cost: 0 })).toMatchObject({ degraded: false, limits: [{ limit: 10, remaining: 10 }] });
  expect(await admittedOf(12, decide)).toBe(10);
  expect(limiter.status()).toEqual({ isDegraded: false, degradedDecisions: 0 });
});

test('beside another node it admits half, at once, shows the whole limit and the rest of its half, and says degraded', async () => {
  const { count, decide, limiter } = node();
  count.nodes = 2;
  expect(decide()).toEqual({
    admitted: true,
    limits: [{ kind: 'rate', name: 'burst', limit: 10, remaining: 4, resetSeconds: 60, windowSeconds: 60 }],
    degraded: true,
  });
  expect(await admittedOf(12, decide)).toBe(4);
  expect(decide()).toMatchObject({
    admitted: false,
    code: 'rate_limited',
    violated: ['burst'],
    retryAfterSeconds: 60,
    limits: [{ limit: 10, remaining: 0 }],
    degraded: true,
  });
  expect(limiter.status()).toEqual({ isDegraded: true, degradedDecisions: 14 });
});

test('of a limit of 1 each node admits one', async () => {
  for (const one of [node(), node()]) {
    one.count.nodes = 2;
    expect(await admittedOf(3, one.decide, { rules: [rule(1)] })).toBe(1);
  }
});

test('uses admitted before another node came count against the half, and against the whole after it has gone', async () => {
  const { count, decide } = node();
  expect(await admittedOf(4, decide)).toBe(4);
  count.nodes = 2;
  expect(await admittedOf(9, decide)).toBe(1);
  count.nodes = 1;
  expect(await admittedOf(9, decide)).toBe(5);
});

test('in a window that begins before the second node starts, at most one and a half of the limit is admitted; in one that begins later, the limit', async () => {
  const clock = new TestClock();
  const [before, after] = [node(clock), node(clock)];
  expect(await admittedOf(20, before.decide)).toBe(10);
  for (const { count } of [before, after]) count.nodes = 2;
  expect(await admittedOf(20, before.decide)).toBe(0);
  expect(await admittedOf(20, after.decide)).toBe(5);
  clock.advance(61_000);
  expect(await admittedOf(20, before.decide)).toBe(5);
  expect(await admittedOf(20, after.decide)).toBe(5);
});

test('a quota is not divided: both nodes together grant all of it and no more', async () => {
  const clock = new TestClock();
  const ledger = ledgerOfOneQuota();
  const [one, other] = [node(clock, ledger), node(clock, ledger)];
  for (const { count } of [one, other]) count.nodes = 2;
  const limits = { rules: [rule(1_000)], quota: { limit: 50, period: 'day' } as const };
  const first = await one.decide(limits);
  expect(first).toMatchObject({ admitted: true, degraded: true, limits: [{ remaining: 499, limit: 1_000 }, {}] });
  expect(first.limits[1]).toMatchObject({ name: 'quota', limit: 50, remaining: 49 });
  let admitted = 1;
  for (let use = 0; use < 60; use += 1)
    for (const { decide } of [one, other]) if ((await decide(limits)).admitted) admitted += 1;
  expect(admitted).toBe(50);
});

test('a key without rate limits is not counted as degraded', async () => {
  const { count, decide, limiter } = node();
  count.nodes = 2;
  expect(decide({ rules: [] })).toEqual({ admitted: true, limits: [], degraded: false });
  expect(limiter.status().degradedDecisions).toBe(0);
});
