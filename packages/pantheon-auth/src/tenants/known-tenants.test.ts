import { expect, test } from 'vitest';
import type { EventNotice } from '../events/ledger.ts';
import { KnownTenants } from './known-tenants.ts';

const READER = { group: 'system', member: 'key1' };
const about = (subjectType: string, subjectId: string): EventNotice =>
  ({ subjectType, subjectId }) as Partial<EventNotice> as EventNotice;

function reading(freshen: () => Promise<void> | null = () => null) {
  const known = new KnownTenants(freshen);
  const reads: { readonly found: () => void; readonly missing: () => void }[] = [];
  const ask = (id = 'acme', member = 'key1') =>
    known.confirm(
      id,
      { ...READER, member },
      () =>
        new Promise<void>((resolve, reject) => {
          reads.push({ found: resolve, missing: () => reject(new Error('not found')) });
        }),
    );
  return { known, reads, ask };
}

test('a tenant is read once, and again after an event about it and after a reset', async () => {
  const { known, reads, ask } = reading();
  const events = [
    () => {},
    () => known.apply(about('tenant', 'acme')),
    () => known.reset(),
    () => known.forget('acme'),
  ];
  for (const [before, happen] of events.entries()) {
    happen();
    const first = ask();
    reads[before]?.found();
    await first;
    known.apply(about('tenant', 'other'));
    known.apply(about('key', 'acme'));
    await ask();
    expect(reads).toHaveLength(before + 1);
  }
});

test('reads of one caller at the same time are one read, and its error reaches no other caller', async () => {
  const { reads, ask } = reading();
  const asked = [ask(), ask(), ask('acme', 'key2'), ask('other')];
  expect(reads).toHaveLength(3);
  for (const { missing } of reads) missing();
  await expect(asked[0]).rejects.toThrow('not found');
  await expect(asked[2]).rejects.toThrow('not found');
  await expect(asked[3]).rejects.toThrow('not found');
  expect(reads).toHaveLength(4);
  reads[3]?.found();
  await asked[1];
  // A tenant that was not there is not remembered, neither as there nor as missing.
  const again = ask('other');
  expect(reads).toHaveLength(5);
  reads[4]?.found();
  await again;
});

test.each([
  ['an event about it', (known: KnownTenants) => known.apply(about('tenant', 'acme'))],
  ['a reset', (known: KnownTenants) => known.reset()],
])('a result read before %s is not cached, and not shared afterwards', async (_name, happen) => {
  const { known, reads, ask } = reading();
  const before = ask();
  happen(known);
  const after = ask();
  expect(reads).toHaveLength(2);
  reads[0]?.found();
  await before;
  const third = ask();
  reads[1]?.missing();
  await expect(after).rejects.toThrow('not found');
  expect(reads).toHaveLength(3);
  reads[2]?.found();
  await third;
});

test('that one is known is said only after the events about it that this node has not read yet', async () => {
  let isLate = false;
  const { known, reads, ask } = reading(() => {
    if (!isLate) return null;
    return Promise.resolve().then(() => known.apply(about('tenant', 'acme')));
  });
  const first = ask();
  reads[0]?.found();
  await first;
  isLate = true;
  const again = ask();
  await new Promise(setImmediate);
  reads[1]?.missing();
  await expect(again).rejects.toThrow('not found');
});
