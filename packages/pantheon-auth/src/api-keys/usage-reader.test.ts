import { expect, test } from 'vitest';
import { CommandReads } from '../commands/command-reads.ts';
import type { UsageRecorder } from '../usage/usage-recorder.ts';
import type { PendingUsage, StoredUsage, UsageRows } from '../usage/usage-rows.ts';
import { UsageReader } from './usage-reader.ts';

function reader(stored: Record<string, StoredUsage[]>, pending: Record<string, PendingUsage[]>) {
  const reads: string[][] = [];
  const rows = {
    ofKey: async (_tenantId: string, id: string) => stored[id] ?? [],
    totalsOf: async (_tenantId: string, ids: readonly string[]) => {
      reads.push([...ids]);
      return new Map(Object.entries(stored).map(([id, [total]]) => [id, total]));
    },
  } as unknown as UsageRows;
  const recorder = { pendingOf: (id: string) => pending[id] ?? [] } as unknown as UsageRecorder;
  const commandReads = new CommandReads({ ordinary: 1, protective: 1 });
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

test('what is stored and what is not yet are one: counts added, the latest use, the latest addresses first', async () => {
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

test('a use from before what is stored moves nothing back', async () => {
  const stored = [{ version: 1, usageCount: 1, lastUsedAt: 100, lastAddresses: [] }];
  const { reader: usage } = reader({ a: stored }, { a: [use(1, 1, 40, [])] });
  expect(await usage.ofKey('default', 'a')).toMatchObject([{ lastUsedAt: 100, usageCount: 2 }]);
});

test('the total of a key is what is stored and what is not yet', async () => {
  const stored = [{ version: 0, usageCount: 10, lastUsedAt: 50, lastAddresses: [] }];
  const { reader: usage } = reader({ a: stored }, { a: [use(1, 2, 60, []), use(3, 1, 40, [])] });
  const parts = (await usage.totalsOf('default', ['a'])).get('a') ?? [];
  expect(parts.reduce((sum, part) => sum + part.usageCount, 0)).toBe(13);
  expect(Math.max(...parts.map((part) => part.lastUsedAt))).toBe(60);
});

test('every key that is asked for has an answer; nobody asks the store about nothing', async () => {
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
