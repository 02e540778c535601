import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MINUTE_MS } from '../foundation/clock.ts';
import { ADDRESS_LENGTH_MAX, ADDRESSES_PER_VERSION_MAX, BATCH_COUNTS_MAX } from './usage-buffer.ts';
import { FLUSH_AFTER_MS, UsageRecorder } from './usage-recorder.ts';
import type { PendingUsage, UsageBatch, UsageCount, UsageOutcome, UsageRows } from './usage-rows.ts';

const START = Date.UTC(2026, 0, 1);
const OUTAGE = new Error('the store is away');

/** The port as its doc comments promise it; `plan` says how the next attempts end. */
class MemoryUsageRows implements UsageRows {
  readonly attempts: UsageBatch[] = [];
  readonly stored = new Map<string, UsageBatch>();
  /** 'lost': nothing was stored. 'unheard': it was stored and the answer was lost. */
  plan: ('stored' | 'lost' | 'unheard')[] = [];
  isAway = false;
  /** While set, an attempt does not end before this does. */
  gate: Promise<void> | null = null;

  async store(batch: UsageBatch): Promise<void> {
    this.attempts.push(batch);
    if (this.gate !== null) await this.gate;
    const ending = this.isAway ? 'lost' : (this.plan.shift() ?? 'stored');
    if (ending !== 'lost' && !this.stored.has(batch.id)) this.stored.set(batch.id, structuredClone(batch));
    if (ending !== 'stored') throw OUTAGE;
  }

  get allCounts(): UsageCount[] {
    return [...this.stored.values()].flatMap(({ counts }) => counts);
  }

  get allUses(): PendingUsage[] {
    return [...this.stored.values()].flatMap(({ uses }) => uses);
  }

  async totalsOf(): Promise<ReadonlyMap<string, never>> {
    return new Map<string, never>();
  }

  async totalOf(): Promise<null> {
    return null;
  }

  async ofKey(): Promise<readonly never[]> {
    return [];
  }

  async sums(): Promise<readonly never[]> {
    return [];
  }

  async prune(): Promise<number> {
    return 0;
  }

  /** Slices of old versions that are left to add up; what each attempt answers. */
  readonly folds: (boolean | Error)[] = [];
  foldedAt: number[] = [];

  async foldVersions(): Promise<boolean> {
    this.foldedAt.push(this.stored.size);
    const answer = this.folds.shift() ?? false;
    if (answer instanceof Error) throw answer;
    return answer;
  }
}

function setUp(entriesMax?: number) {
  const rows = new MemoryUsageRows();
  const errors: unknown[] = [];
  const clock = { now: () => START, monotonicMs: () => 0 };
  const onError = (error: unknown): void => void errors.push(error);
  const bound = entriesMax === undefined ? {} : { entriesMax };
  const recorder = new UsageRecorder({ rows, clock, onError, ...bound });
  const use = (
    keyId: string,
    change: { version?: number; outcome?: UsageOutcome; address?: string; at?: number } = {},
  ) =>
    recorder.record({ tenantId: 'default', keyId, version: 1, outcome: 'valid', address: null, at: START, ...change });
  return { rows, errors, recorder, use };
}

const sumOf = (counted: readonly { readonly count: number }[]): number =>
  counted.reduce((sum, { count }) => sum + count, 0);

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** Lets the timer fire and what it started come to an end. */
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe('counting', () => {
  test('adds up by key, version, minute and outcome; only valid uses are uses', async () => {
    const { recorder, use, rows } = setUp();
    use('a', { address: '10.0.0.1' });
    use('a', { at: START + MINUTE_MS - 1, address: '10.0.0.2' });
    use('a', { at: START + MINUTE_MS });
    use('a', { outcome: 'rate_limited', address: '10.0.0.3', at: START + 2 * MINUTE_MS });
    use('a', { version: 2, outcome: 'expired' });
    expect(await recorder.flush()).toBe(true);
    const [batch] = rows.attempts;
    const key = { tenantId: 'default', keyId: 'a' };
    expect(batch?.at).toBe(START);
    expect(batch?.counts).toEqual([
      { ...key, version: 1, minute: START, outcome: 'valid', count: 2 },
      { ...key, version: 1, minute: START + MINUTE_MS, outcome: 'valid', count: 1 },
      { ...key, version: 1, minute: START + 2 * MINUTE_MS, outcome: 'rate_limited', count: 1 },
      { ...key, version: 2, minute: START, outcome: 'expired', count: 1 },
    ]);
    expect(batch?.uses).toEqual([
      { ...key, version: 1, count: 3, lastUsedAt: START + MINUTE_MS, addresses: ['10.0.0.2', '10.0.0.1'] },
    ]);
  });

  test('a clock that was set back neither loses a count nor sets the last use back', async () => {
    const { recorder, use, rows } = setUp();
    for (const at of [START + MINUTE_MS, START, START + MINUTE_MS, START]) use('a', { at });
    await recorder.flush();
    expect(rows.allCounts.map(({ minute, count }) => [minute, count])).toEqual([
      [START + MINUTE_MS, 2],
      [START, 2],
    ]);
    expect(rows.allUses).toMatchObject([{ lastUsedAt: START + MINUTE_MS }]);
  });

  test('the same key id in two tenants is two keys', async () => {
    const { recorder, use, rows } = setUp();
    use('a');
    recorder.record({ tenantId: 'other', keyId: 'a', version: 1, outcome: 'valid', address: null, at: START });
    await recorder.flush();
    expect(rows.allCounts.map(({ tenantId, count }) => [tenantId, count])).toEqual([
      ['default', 1],
      ['other', 1],
    ]);
  });

  test('keeps the latest distinct addresses, latest first, and nothing too long to be one', async () => {
    const { recorder, use, rows } = setUp();
    for (const last of [1, 2, 3, 4, 5, 6, 7, 4, 4]) use('a', { address: `10.0.0.${last}` });
    use('a', { address: 'x'.repeat(ADDRESS_LENGTH_MAX + 1) });
    await recorder.flush();
    const expected = ['10.0.0.4', '10.0.0.7', '10.0.0.6', '10.0.0.5', '10.0.0.3'];
    expect(expected).toHaveLength(ADDRESSES_PER_VERSION_MAX);
    expect(rows.allUses).toMatchObject([{ addresses: expected }]);
  });

  test('an outcome without a key is in the totals and never stored', async () => {
    const { recorder, use, rows } = setUp();
    use('a');
    recorder.recordUnmatched('malformed');
    recorder.recordUnmatched('malformed');
    recorder.recordUnmatched('valid');
    await recorder.flush();
    expect(recorder.totals()).toEqual(
      new Map([
        ['valid', 2],
        ['malformed', 2],
      ]),
    );
    expect(sumOf(rows.allCounts)).toBe(1);
  });
});

describe('storing', () => {
  test('begins within a second of the first use, and only then', async () => {
    const { use, rows } = setUp();
    await pass(10 * FLUSH_AFTER_MS);
    use('a');
    await pass(FLUSH_AFTER_MS - 1);
    use('a');
    expect(rows.attempts).toEqual([]);
    await pass(1);
    expect(sumOf(rows.allCounts)).toBe(2);
    await pass(10 * FLUSH_AFTER_MS);
    expect(rows.attempts).toHaveLength(1);
  });

  test('is never done inside the call that records, not even by a full buffer', () => {
    const { use, rows } = setUp(2);
    use('a');
    use('b');
    use('c');
    expect(rows.attempts).toEqual([]);
  });

  test('that fails is logged and retried with the same id and content; later uses wait', async () => {
    const { use, rows, errors, recorder } = setUp();
    rows.plan = ['lost', 'unheard', 'stored'];
    use('a');
    await pass(FLUSH_AFTER_MS);
    expect(errors).toEqual([OUTAGE]);
    use('a');
    expect(recorder.pendingOf('a')).toMatchObject([{ count: 2 }]);
    await pass(FLUSH_AFTER_MS);
    expect(errors).toEqual([OUTAGE, OUTAGE]);
    await pass(FLUSH_AFTER_MS);
    const [first, second, third, fourth] = rows.attempts;
    expect(second).toBe(first);
    expect(third).toBe(first);
    expect(fourth?.id).not.toBe(first?.id);
    expect(rows.attempts).toHaveLength(4);
    expect(sumOf(rows.allCounts)).toBe(2);
    expect(recorder.pendingOf('a')).toEqual([]);
  });

  test('is done one flush at a time, and a flush that is requested meanwhile includes all earlier uses', async () => {
    const { use, rows, recorder } = setUp();
    let open = (): void => {};
    rows.gate = new Promise((resolve) => {
      open = resolve;
    });
    use('a');
    const first = recorder.flush();
    await pass(0);
    use('b');
    const second = recorder.flush();
    await pass(2 * FLUSH_AFTER_MS);
    expect(rows.attempts).toHaveLength(1);
    open();
    expect(await Promise.all([first, second])).toEqual([true, true]);
    expect(rows.allCounts.map(({ keyId }) => keyId)).toEqual(['a', 'b']);
  });

  test('includes all earlier uses also if a flush is requested at the moment another one ends', async () => {
    const { use, rows, recorder } = setUp();
    for (let run = 0; run < 20; run += 1) {
      use(`a${run}`);
      const first = recorder.flush();
      for (let tick = 0; tick < run; tick += 1) await null;
      use(`b${run}`);
      await Promise.all([first, recorder.flush()]);
      expect(recorder.pendingOf(`b${run}`)).toEqual([]);
    }
    expect(sumOf(rows.allCounts)).toBe(40);
  });

  test('is done in batches of a bounded size, each key in one of them, and never with an empty batch', async () => {
    const { use, rows, recorder } = setUp();
    const keys = 2 * BATCH_COUNTS_MAX + 1;
    for (let key = 0; key < keys; key += 1) use(`key${key}`);
    rows.plan = ['stored', 'lost'];
    expect(await recorder.flush()).toBe(false);
    expect(await recorder.flush()).toBe(true);
    expect(await recorder.flush()).toBe(true);
    expect(rows.attempts.map(({ counts }) => counts.length)).toEqual([
      BATCH_COUNTS_MAX,
      BATCH_COUNTS_MAX,
      BATCH_COUNTS_MAX,
      1,
    ]);
    expect(new Set(rows.allUses.map(({ keyId }) => keyId)).size).toBe(keys);
  });

  test('does not keep the process running', () => {
    vi.useRealTimers();
    const before = process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
    setUp().use('a');
    const after = process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
    expect(after).toBe(before);
  });
});

describe('uses not yet stored', () => {
  test('are summed over every version, those being stored and later ones', async () => {
    const { recorder, use, rows } = setUp();
    rows.isAway = true;
    for (const last of [1, 2, 3]) use('a', { address: `10.0.0.${last}`, at: START + 5 });
    use('a', { version: 2 });
    await recorder.flush();
    for (const last of [2, 4, 5, 6]) use('a', { address: `10.0.0.${last}` });
    use('a', { version: 3 });
    use('b');
    const key = { tenantId: 'default', keyId: 'a', lastUsedAt: START, addresses: [], count: 1 };
    const addresses = [6, 5, 4, 2, 3].map((last) => `10.0.0.${last}`);
    expect(recorder.pendingOf('a')).toEqual([
      { ...key, version: 2 },
      { ...key, version: 1, count: 7, lastUsedAt: START + 5, addresses },
      { ...key, version: 3 },
    ]);
    expect(recorder.pendingOf('never seen')).toEqual([]);
  });
});

describe('a full buffer', () => {
  test('is stored at once, and nothing is dropped while the store keeps up', async () => {
    const { recorder, use, rows } = setUp(4);
    for (let key = 0; key < 40; key += 1) {
      use(`key${key}`, { address: '10.0.0.1' });
      await pass(0);
    }
    expect(rows.attempts.length).toBeGreaterThanOrEqual(19);
    await recorder.flush();
    expect(rows.allUses.filter(({ addresses }) => addresses.length === 1)).toHaveLength(40);
    expect(recorder.droppedCount).toBe(0);
  });

  test('drops addresses first, then minutes, then uses, which it counts, while the store is unavailable', async () => {
    const { recorder, use, rows } = setUp(6);
    rows.isAway = true;
    use('first');
    await recorder.flush(); // From here on one batch waits, so the buffer cannot be replaced.
    for (const minute of [0, 1, 2]) use('a', { at: START + minute * MINUTE_MS, address: `10.0.0.${minute}` });
    expect(recorder.pendingOf('a')).toMatchObject([{ addresses: ['10.0.0.2', '10.0.0.1', '10.0.0.0'] }]);

    use('b', { address: '10.0.0.9' });
    expect(recorder.pendingOf('a')).toMatchObject([{ count: 3, addresses: [] }]);
    expect(recorder.pendingOf('b')).toMatchObject([{ count: 1, addresses: [] }]);

    use('c');
    use('d');
    use('a', { at: START + 3 * MINUTE_MS }); // Merges the minutes, and joins the one that is left.
    for (const key of ['e', 'f', 'g', 'h']) use(key);
    expect(recorder.droppedCount).toBe(2);
    use('a', { outcome: 'suspended' });
    use('g');
    expect(recorder.droppedCount).toBe(4);
    use('a', { at: START + 60 * MINUTE_MS });
    expect(recorder.droppedCount).toBe(4);

    rows.isAway = false;
    await recorder.flush();
    const counted = rows.allCounts.map(
      ({ keyId, minute, count }) => `${keyId} ${(minute - START) / MINUTE_MS} ${count}`,
    );
    expect(counted).toEqual(['first 0 1', 'a 0 5', 'b 0 1', 'c 0 1', 'd 0 1', 'e 0 1', 'f 0 1']);
    expect(recorder.totals()).toEqual(
      new Map([
        ['valid', 14],
        ['suspended', 1],
      ]),
    );

    // Full detail again with the next buffer.
    use('a', { at: START + MINUTE_MS, address: '10.0.0.1' });
    await recorder.flush();
    expect(rows.allUses.at(-1)).toMatchObject({ addresses: ['10.0.0.1'] });
  });

  test('never grows beyond its bound, whatever is recorded while the store is unavailable', async () => {
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: 12 }),
      fc.array(fc.tuple(fc.nat(9), fc.nat(5), fc.constantFrom<UsageOutcome>('valid', 'expired'), fc.nat(7)), {
        maxLength: 120,
      }),
      async (entriesMax, uses) => {
        const { recorder, use, rows } = setUp(entriesMax);
        rows.isAway = true;
        for (const [key, minute, outcome, last] of uses) {
          use(`key${key}`, { at: START + minute * MINUTE_MS, outcome, address: `10.0.0.${last}` });
          if (last === 0) await pass(0);
        }
        await recorder.flush();
        rows.isAway = false;
        await recorder.flush();
        for (const { counts, uses: versions } of rows.stored.values()) {
          expect(counts.length + versions.flatMap(({ addresses }) => addresses).length).toBeLessThanOrEqual(entriesMax);
          const places = counts.map(({ keyId, minute, outcome }) => `${keyId} ${minute} ${outcome}`);
          expect(new Set(places).size).toBe(places.length);
        }
        expect(sumOf(rows.allCounts) + recorder.droppedCount).toBe(uses.length);
        expect(sumOf(rows.allUses)).toBe(sumOf(rows.allCounts.filter(({ outcome }) => outcome === 'valid')));
        expect(sumOf([...recorder.totals().values()].map((count) => ({ count })))).toBe(uses.length);
      },
    );
    await fc.assert(property);
  });
});

describe('closing', () => {
  test('stores what is left; later uses are dropped and counted, and no timer stays', async () => {
    const { recorder, use, rows } = setUp();
    use('a');
    expect(await recorder.close()).toBe(true);
    use('a');
    use('a');
    expect(recorder.droppedCount).toBe(2);
    expect(vi.getTimerCount()).toBe(0);
    expect(sumOf(rows.allCounts)).toBe(1);
    expect(recorder.totals()).toEqual(new Map([['valid', 3]]));
  });

  test('reports an unavailable store, leaves no timer, and can be repeated', async () => {
    const { recorder, use, rows } = setUp();
    rows.isAway = true;
    use('a');
    expect(await recorder.close()).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
    rows.isAway = false;
    expect(await recorder.close()).toBe(true);
    expect(sumOf(rows.allCounts)).toBe(1);
  });
});

test('however uses, flushes, failures and time interleave, each use is stored once', async () => {
  const useArbitrary = fc.record({
    kind: fc.constant('use' as const),
    key: fc.nat(3),
    version: fc.integer({ min: 1, max: 2 }),
    outcome: fc.constantFrom<UsageOutcome>('valid', 'rate_limited', 'revoked'),
    minute: fc.nat(3),
  });
  const commandArbitrary = fc.oneof(
    { weight: 6, arbitrary: useArbitrary },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const), waited: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(0, 1, 999, 1_000) }) },
  );
  const planArbitrary = fc.array(fc.constantFrom('stored' as const, 'lost' as const, 'unheard' as const), {
    maxLength: 12,
  });
  const property = fc.asyncProperty(
    fc.array(commandArbitrary, { maxLength: 60 }),
    planArbitrary,
    async (commands, plan) => {
      const { recorder, use, rows } = setUp();
      rows.plan = [...plan];
      const expected = new Map<string, number>();
      const add = (
        sums: Map<string, number>,
        { keyId, version, minute, outcome, count }: Omit<UsageCount, 'tenantId'>,
      ) => {
        const place = [keyId, version, minute, outcome].join(' ');
        sums.set(place, (sums.get(place) ?? 0) + count);
      };
      for (const command of commands) {
        if (command.kind === 'time') await pass(command.ms);
        else if (command.kind === 'flush') {
          const flushed = recorder.flush();
          if (command.waited) await flushed;
        } else {
          const { version, outcome } = command;
          const keyId = `key${command.key}`;
          const minute = START + command.minute * MINUTE_MS;
          add(expected, { keyId, version, minute, outcome, count: 1 });
          use(keyId, { version, outcome, at: minute + 7 });
        }
      }
      for (let attempt = 0; attempt <= plan.length; attempt += 1) await recorder.flush();
      const stored = new Map<string, number>();
      for (const count of rows.allCounts) add(stored, count);
      expect(stored).toEqual(expected);
      const valid = [...expected].filter(([place]) => place.endsWith('valid'));
      expect(sumOf(rows.allUses)).toBe(sumOf(valid.map(([, count]) => ({ count }))));
      expect(recorder.droppedCount).toBe(0);
      for (const key of [0, 1, 2, 3]) expect(recorder.pendingOf(`key${key}`)).toEqual([]);
    },
  );
  await fc.assert(property, { numRuns: 300 });
});

test('old versions are folded by the node that stored their uses, after all is stored, a few each time, and retried after a failure', async () => {
  const { rows, recorder, errors, use } = setUp();
  use('key');
  rows.folds.push(true, new Error('away'));
  expect(await recorder.flush()).toBe(true);
  expect(rows.foldedAt).toEqual([1]);
  // Nothing of the usage is held up by it.
  use('key', { version: 2 });
  expect(await recorder.flush()).toBe(true);
  expect([rows.foldedAt, errors.length]).toEqual([[1, 2], 1]);
  await recorder.flush();
  expect(rows.foldedAt).toEqual([1, 2, 2]);
});
