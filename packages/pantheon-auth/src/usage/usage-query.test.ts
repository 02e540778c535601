import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../foundation/clock.ts';
import { UsageQueryService } from './usage-query.ts';
import type { UsageQuery, UsageRows, UsageStep, UsageSum } from './usage-rows.ts';
import { STEP_MS, USAGE_KEPT_MS, USAGE_RANGE_MAX_MS } from './usage-steps.ts';

const NOW = Date.UTC(2028, 2, 3);
const START = Date.UTC(2028, 1, 29); // A leap day, so that no step is taken for a calendar's.
const STEPS = Object.keys(STEP_MS) as UsageStep[];

const sum = (from: number, outcome: string, count: number): UsageSum => ({ from, outcome, count });

/** The port as its doc comments promise it, over fixed sums. */
function setUp(sums: readonly UsageSum[] = []) {
  const queries: UsageQuery[] = [];
  const rows = {
    sums: async (query: UsageQuery) => {
      queries.push(query);
      return sums.filter(({ from }) => from >= query.from && from < query.to);
    },
  } as unknown as UsageRows;
  const clock = { now: () => NOW, monotonicMs: () => 0 };
  return { service: new UsageQueryService({ rows, clock }), queries };
}

test('a report over several reads has every sum once, by step and outcome, in order of time', async () => {
  const steps = fc.uniqueArray(fc.record({ hour: fc.nat(31 * 24 - 1), outcome: fc.constantFrom('valid', 'expired') }), {
    selector: ({ hour, outcome }) => `${hour} ${outcome}`,
  });
  await fc.assert(
    fc.asyncProperty(steps, async (found) => {
      const from = NOW - 31 * DAY_MS;
      const sums = found
        .toSorted((a, b) => a.hour - b.hour)
        .map(({ hour, outcome }) => sum(from + hour * HOUR_MS, outcome, hour + 1));
      const { service } = setUp(sums);
      const request = { tenantId: 't', keyId: null, from, to: NOW, granularity: 'hour' } as const;
      const { items } = await service.report(request);
      expect(items.flatMap(({ outcomes }) => Object.entries(outcomes)).length).toBe(sums.length);
      for (const one of sums)
        expect(items.find((item) => item.from === one.from)?.outcomes[one.outcome]).toBe(one.count);
      expect(items.map((item) => item.from)).toEqual([...new Set(sums.map((one) => one.from))]);
    }),
  );
});

test('steps are those of UTC, and a step is complete also if the range begins or ends inside it', async () => {
  const { service, queries } = setUp([sum(START, 'valid', 2), sum(START + HOUR_MS, 'valid', 5)]);
  const range = { from: START + 30 * MINUTE_MS, to: START + HOUR_MS + 1 };
  const report = await service.report({ tenantId: 't', keyId: 'key1', ...range, granularity: 'hour' });
  expect(report).toEqual({
    items: [
      { from: START, outcomes: { valid: 2 } },
      { from: START + HOUR_MS, outcomes: { valid: 5 } },
    ],
  });
  expect(queries).toEqual([{ tenantId: 't', keyId: 'key1', step: 'hour', from: START, to: START + 2 * HOUR_MS }]);
});

test.each(STEPS)(
  'the longest range by %s is a few adjacent reads, and one of a millisecond more is refused with what to do',
  async (granularity) => {
    const { service, queries } = setUp();
    const to = NOW;
    const from = to - USAGE_RANGE_MAX_MS[granularity];
    const request = { tenantId: 't', keyId: null, to, granularity };
    await expect(service.report({ ...request, from })).resolves.toEqual({ items: [] });
    expect(queries.length).toBeLessThanOrEqual(6);
    expect([queries[0]?.from, queries.at(-1)?.to]).toEqual([from, to]);
    for (const [at, query] of queries.entries()) if (at > 0) expect(query.from).toBe(queries[at - 1]?.to);
    const refused = service.report({ ...request, from: from - 1 });
    const remedy = { minute: 'granularity hour', hour: 'granularity day', day: 'a part of it' }[granularity];
    await expect(refused).rejects.toMatchObject({
      code: 'invalid_request',
      field: 'granularity',
      detail: expect.stringContaining(remedy),
    });
  },
);

test.each([
  ['minute', 'hour'],
  ['hour', 'day'],
] as const)(
  'counts by %s that are no longer kept are refused with the granularity that is kept',
  async (granularity, coarser) => {
    const { service } = setUp();
    const oldest = Math.floor((NOW - USAGE_KEPT_MS[granularity]) / STEP_MS[granularity]) * STEP_MS[granularity];
    const request = { tenantId: 't', keyId: null, granularity };
    await expect(service.report({ ...request, from: oldest, to: oldest + DAY_MS })).resolves.toEqual({ items: [] });
    await expect(service.report({ ...request, from: oldest - 1, to: oldest + HOUR_MS })).rejects.toMatchObject({
      field: 'granularity',
      detail: expect.stringContaining(`granularity ${coarser}`),
    });
    await expect(
      service.report({ ...request, granularity: coarser, from: oldest - 1, to: oldest + HOUR_MS }),
    ).resolves.toEqual({ items: [] });
  },
);

test('for any range, following the advice of the errors ends in an answer', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(NOW), fc.nat(NOW), fc.constantFrom(...STEPS), async (one, other, asked) => {
      const { service } = setUp();
      const request = { tenantId: 't', keyId: null, from: Math.min(one, other), to: Math.max(one, other) + 1 };
      const answered = async (granularity: UsageStep): Promise<boolean> =>
        service.report({ ...request, granularity }).then(
          () => true,
          () => false,
        );
      const coarser: UsageStep[] = STEPS.slice(STEPS.indexOf(asked));
      const some = (await Promise.all(coarser.map(answered))).includes(true);
      // Longer than anything that is kept: then a part of it is to be asked for, by day.
      expect(some || request.to - request.from > USAGE_RANGE_MAX_MS.day).toBe(true);
    }),
  );
});

test('a report that no caller waits for any more stops reading', async () => {
  const { service, queries } = setUp();
  const client = new AbortController();
  const request = { tenantId: 't', keyId: null, from: NOW - DAY_MS, to: NOW, granularity: 'minute' } as const;
  const report = service.report(request, client.signal);
  client.abort(new Error('gone'));
  await expect(report).rejects.toThrow('gone');
  expect(queries).toHaveLength(1);
});

test.each([
  ['from', Number.NaN, START],
  ['from', -1, START],
  ['from', 0.5, START],
  ['to', START, Number.POSITIVE_INFINITY],
  ['to', START, 8_640_000_000_000_001],
  ['to', START, START],
  ['to', START, START - 1],
])('a range with an invalid %s is refused with its field: %d to %d', async (field, from, to) => {
  const { service, queries } = setUp();
  const request = { tenantId: 't', keyId: null, from, to, granularity: 'minute' as const };
  await expect(service.report(request)).rejects.toMatchObject({ code: 'invalid_request', field });
  expect(queries).toEqual([]);
});
