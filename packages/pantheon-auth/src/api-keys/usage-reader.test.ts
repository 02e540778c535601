import { describe, expect, test, vi } from 'vitest';
import { CommandReads } from '../commands/command-reads.ts';
import { TestClock } from '../testing/test-clock.ts';
import { UsageRecorder } from '../usage/usage-recorder.ts';
import {
  type KeyUsage,
  latestUse,
  type PendingUsage,
  type StoredUsage,
  type UsageBatch,
  type UsageRows,
} from '../usage/usage-rows.ts';
import { STORING_MS_MAX, UsageReader } from './usage-reader.ts';

function reader(stored: Record<string, StoredUsage[]>, pending: Record<string, PendingUsage[]>) {
  const reads: string[][] = [];
  const rows = {
    ofKey: async (_tenantId: string, id: string) => stored[id] ?? [],
    totalsOf: async (_tenantId: string, ids: readonly string[]) => {
      reads.push([...ids]);
      return new Map(Object.entries(stored).map(([id, [total]]) => [id, total]));
    },
  } as unknown as UsageRows;
  const idle = { storing: null, storesBegun: 0 };
  const recorder = { ...idle, pendingOf: (id: string) => pending[id] ?? [] } as unknown as UsageRecorder;
  const commandReads = new CommandReads({ ordinary: 1, protective: 1 }, new TestClock());
  return { reader: new UsageReader({ rows, recorder, reads: commandReads }), rows, reads };
}

const use = (version: number, count: number, lastUsedAt: number, addresses: string[]): PendingUsage => ({
  tenantId: 'default',
  keyId: 'a',
  version,
  count,
  lastUsedAt,
  addresses,
});

test('stored and pending usage are merged: counts added, the latest use, the latest addresses first', async () => {
  const stored = [
    { version: 1, usageCount: 10, lastUsedAt: 50, lastAddresses: ['a', 'b', 'c', 'd', 'e'] },
    { version: 2, usageCount: 1, lastUsedAt: 90, lastAddresses: [] },
  ];
  const { reader: usage } = reader({ a: stored }, { a: [use(1, 2, 60, ['f', 'b']), use(3, 1, 95, ['g'])] });
  expect(await usage.ofKey('default', 'a')).toEqual([
    { version: 1, usageCount: 12, lastUsedAt: 60, lastAddresses: ['f', 'b', 'a', 'c', 'd'] },
    { version: 2, usageCount: 1, lastUsedAt: 90, lastAddresses: [] },
    { version: 3, usageCount: 1, lastUsedAt: 95, lastAddresses: ['g'] },
  ]);
});

test('a use older than the stored ones does not change the last use', async () => {
  const stored = [{ version: 1, usageCount: 1, lastUsedAt: 100, lastAddresses: [] }];
  const { reader: usage } = reader({ a: stored }, { a: [use(1, 1, 40, [])] });
  expect(await usage.ofKey('default', 'a')).toMatchObject([{ lastUsedAt: 100, usageCount: 2 }]);
});

test('the total of a key is the sum of stored and pending usage', async () => {
  const stored = [{ version: 0, usageCount: 10, lastUsedAt: 50, lastAddresses: [] }];
  const { reader: usage } = reader({ a: stored }, { a: [use(1, 2, 60, []), use(3, 1, 40, [])] });
  const parts = (await usage.totalsOf('default', ['a'])).get('a') ?? [];
  expect(parts.reduce((sum, part) => sum + part.usageCount, 0)).toBe(13);
  expect(latestUse(parts.map((part) => part.lastUsedAt))).toBe(60);
});

test('every requested key has a result; an empty request asks the store nothing', async () => {
  const { reader: usage, reads } = reader({}, {});
  expect(await usage.totalsOf('default', ['a', 'b'])).toEqual(
    new Map([
      ['a', []],
      ['b', []],
    ]),
  );
  expect(await usage.totalsOf('default', [])).toEqual(new Map());
  expect(reads).toEqual([['a', 'b']]);
});

describe('a batch that is stored while a key is read', () => {
  /** One use; while the stored total is read, `meanwhile` happens. */
  function counting(meanwhile: (recorder: UsageRecorder, reads: number) => Promise<unknown>) {
    let reads = 0;
    let stored: KeyUsage | null = null;
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const rows = {
      store: async ({ uses }: UsageBatch) => {
        await gate;
        for (const { count, lastUsedAt } of uses)
          stored = { usageCount: (stored?.usageCount ?? 0) + count, lastUsedAt };
      },
      foldVersions: async () => false,
      totalOf: async () => {
        reads += 1;
        await meanwhile(recorder, reads);
        return stored;
      },
    } as unknown as UsageRows;
    const clock = new TestClock();
    const recorder = new UsageRecorder({ rows, clock, onError: () => {} });
    const record = () =>
      recorder.record({ tenantId: 't', keyId: 'a', version: 1, outcome: 'valid', address: null, at: 1 });
    record();
    const usage = new UsageReader({
      rows,
      recorder,
      reads: new CommandReads({ ordinary: 1, protective: 1 }, new TestClock()),
    });
    const total = async () => (await usage.totalOf('t', 'a')).reduce((sum, { usageCount }) => sum + usageCount, 0);
    const totalBefore = () =>
      usage.totalBefore({ tenantId: 't', keyId: 'a', reader: { group: 't', member: 'm' }, lane: 'protective' });
    return { total, totalBefore, recorder, record, open, clock, reads: () => reads };
  }

  test('is counted once if it begins and ends within the read', async () => {
    const { total, open, reads } = counting(async (recorder, read) => read === 1 && recorder.flush());
    open();
    expect(await total()).toBe(1);
    expect(reads()).toBe(2);
  });

  test('is counted once if it began before the read and ends within it', async () => {
    const { total, recorder, open } = counting(async () => open());
    void recorder.flush();
    await vi.waitFor(() => expect(recorder.storing).not.toBeNull());
    expect(await total()).toBe(1);
  });

  test('is counted once if it begins within the read and ends after it', async () => {
    const { total, open } = counting(async (recorder, read) => {
      if (read === 1) void recorder.flush();
      await null;
      setTimeout(open, 10);
    });
    expect(await total()).toBe(1);
  });

  test('is waited for no longer than its storing usually takes, by however many reads', async () => {
    const { total, recorder, open, clock, reads } = counting(async () => {});
    void recorder.flush();
    await vi.waitFor(() => expect(recorder.storing).not.toBeNull());
    let isAnswered = false;
    const first = total().finally(() => {
      isAnswered = true;
    });
    clock.advance(STORING_MS_MAX - 1);
    await new Promise(setImmediate);
    expect(isAnswered).toBe(false);
    clock.advance(1);
    expect(await first).toBe(1);
    expect(await total()).toBe(1);
    expect(reads()).toBe(2);
    open();
    await recorder.flush();
    expect(await total()).toBe(1);
  });

  test('causes at most two more reads, and none before a change', async () => {
    const { total, totalBefore, record, open, reads } = counting(async (recorder) => {
      await recorder.flush();
      record();
    });
    open();
    await total();
    expect(reads()).toBe(3);
    await totalBefore();
    expect(reads()).toBe(4);
  });
});
