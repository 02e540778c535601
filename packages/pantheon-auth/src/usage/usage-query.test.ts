import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../foundation/clock.ts';
import { GRANULARITY_MS, rollUp, USAGE_RANGE_MAX_MS, type UsageGranularity, UsageQueryService } from './usage-query.ts';
import type { UsageCount, UsageOutcome, UsageQuery, UsageRows } from './usage-rows.ts';

const START = Date.UTC(2028, 1, 29); // A leap day, so that no step is taken for a calendar's.
const GRANULARITIES = Object.keys(GRANULARITY_MS) as UsageGranularity[];

const count = (minute: number, outcome: UsageOutcome, times: number, keyId = 'key1'): UsageCount => {
  return { tenantId: 'default', keyId, version: 1, minute, outcome, count: times };
};

/** The port as its doc comments promise it, over fixed counts. */
class MemoryUsageRows implements UsageRows {
  readonly queries: UsageQuery[] = [];
  readonly #counts: readonly UsageCount[];

  constructor(counts: readonly UsageCount[]) {
    this.#counts = counts;
  }

  async counts(query: UsageQuery): Promise<readonly UsageCount[]> {
    this.queries.push(query);
    return this.#counts.filter(({ minute, tenantId, keyId }) => {
      const isAsked = tenantId === query.tenantId && (query.keyId === null || query.keyId === keyId);
      return isAsked && minute >= query.from && minute < query.to;
    });
  }

  async store(): Promise<void> {}

  async ofKeys(): Promise<ReadonlyMap<string, never>> {
    return new Map<string, never>();
  }
}

const countsArbitrary = fc.array(
  fc.record({
    minute: fc.integer({ min: 0, max: 3 * 24 * 60 - 1 }).map((minute) => START + minute * MINUTE_MS),
    outcome: fc.constantFrom<UsageOutcome>('valid', 'rate_limited', 'expired'),
    count: fc.integer({ min: 1, max: 1_000_000 }),
    keyId: fc.constantFrom('key1', 'key2'),
    tenantId: fc.constant('default'),
    version: fc.integer({ min: 1, max: 3 }),
  }),
);

test('a roll-up loses nothing and moves nothing into another step', () => {
  fc.assert(
    fc.property(countsArbitrary, fc.constantFrom(...GRANULARITIES), (counts, granularity) => {
      const { items } = rollUp(counts, granularity);
      const stepMs = GRANULARITY_MS[granularity];
      expect(items.map(({ from }) => from)).toEqual([...new Set(items.map(({ from }) => from))].sort((a, b) => a - b));
      for (const { from, outcomes } of items) {
        expect(from % stepMs).toBe(0);
        const within = counts.filter(({ minute }) => minute >= from && minute < from + stepMs);
        for (const outcome of new Set(within.map((one) => one.outcome))) {
          const expected = within.filter((one) => one.outcome === outcome).reduce((sum, one) => sum + one.count, 0);
          expect(outcomes[outcome]).toBe(expected);
        }
      }
      const all = items.flatMap(({ outcomes }) => Object.values(outcomes));
      expect(all.reduce((sum, times) => sum + times, 0)).toBe(counts.reduce((sum, one) => sum + one.count, 0));
    }),
  );
});

test('a report over several reads equals the roll-up of all counts at once', async () => {
  const property = fc.asyncProperty(countsArbitrary, fc.constantFrom('hour', 'day'), async (counts, granularity) => {
    const service = new UsageQueryService(new MemoryUsageRows(counts));
    const range = { from: START, to: START + 3 * DAY_MS };
    expect(await service.report({ tenantId: 'default', keyId: null, ...range, granularity })).toEqual(
      rollUp(counts, granularity),
    );
    const own = counts.filter(({ keyId }) => keyId === 'key2');
    expect(await service.report({ tenantId: 'default', keyId: 'key2', ...range, granularity })).toEqual(
      rollUp(own, granularity),
    );
  });
  await fc.assert(property);
});

test('steps are those of UTC, and a step is whole even when the range begins or ends inside it', async () => {
  const rows = new MemoryUsageRows([
    count(START - MINUTE_MS, 'valid', 1),
    count(START, 'valid', 2),
    count(START + HOUR_MS - MINUTE_MS, 'rate_limited', 3),
    count(START + HOUR_MS, 'valid', 5),
    count(START + 2 * HOUR_MS, 'valid', 7),
  ]);
  const range = { from: START + 30 * MINUTE_MS, to: START + HOUR_MS + 1 };
  const report = await new UsageQueryService(rows).report({
    tenantId: 'default',
    keyId: 'key1',
    ...range,
    granularity: 'hour',
  });
  expect(report).toEqual({
    items: [
      { from: START, outcomes: { valid: 2, rate_limited: 3 } },
      { from: START + HOUR_MS, outcomes: { valid: 5 } },
    ],
  });
});

test('no read spans more than a day, the reads meet without gap or overlap, and each is of the tenant asked for', async () => {
  const rows = new MemoryUsageRows([]);
  const from = START + 5;
  const to = from + USAGE_RANGE_MAX_MS.day;
  expect(
    await new UsageQueryService(rows).report({ tenantId: 't', keyId: null, from, to, granularity: 'day' }),
  ).toEqual({
    items: [],
  });
  expect(rows.queries[0]?.from).toBe(START);
  expect(rows.queries.at(-1)?.to).toBe(START + USAGE_RANGE_MAX_MS.day + DAY_MS);
  rows.queries.forEach((query, index) => {
    expect(query.tenantId).toBe('t');
    expect(query.to - query.from).toBeLessThanOrEqual(DAY_MS);
    if (index > 0) expect(query.from).toBe(rows.queries[index - 1]?.to);
  });
});

test.each(GRANULARITIES)(
  'the longest range by %s is read, and one millisecond more is refused',
  async (granularity) => {
    const service = new UsageQueryService(new MemoryUsageRows([]));
    const request = { tenantId: 'default', keyId: null, from: START, granularity };
    const to = START + USAGE_RANGE_MAX_MS[granularity];
    await expect(service.report({ ...request, to })).resolves.toEqual({ items: [] });
    await expect(service.report({ ...request, to: to + 1 })).rejects.toMatchObject({
      code: 'invalid_request',
      field: 'from',
    });
  },
);

test.each([
  ['from', Number.NaN, START],
  ['from', -1, START],
  ['from', 0.5, START],
  ['to', START, Number.POSITIVE_INFINITY],
  ['to', START, 8_640_000_000_000_001],
  ['to', START, START],
  ['to', START, START - 1],
])('a range whose %s is no good is refused by name: %d to %d', async (field, from, to) => {
  const rows = new MemoryUsageRows([]);
  const request = { tenantId: 'default', keyId: null, from, to, granularity: 'minute' as const };
  await expect(new UsageQueryService(rows).report(request)).rejects.toMatchObject({ code: 'invalid_request', field });
  expect(rows.queries).toEqual([]);
});
