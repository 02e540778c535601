import { describe, expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import { COLD_READS_WAITING_MAX, ColdReads, type Lane, type ReadQueueKey } from './cold-reads.ts';

const READS_MAX = 8;
/** Of those, by lane. */
const MAIN = 6;
const DOUBTFUL = 2;

interface HeldRead {
  readonly id: string;
  readonly answer: (value: string) => void;
  readonly fail: (error: Error) => void;
  readonly isInvalidated: () => boolean;
}

function setUp(readsMax = READS_MAX) {
  const begun: HeldRead[] = [];
  const reads = new ColdReads<string>({
    readsMax,
    load: (id, isInvalidated) =>
      new Promise((answer, fail) => {
        begun.push({ id, answer, fail, isInvalidated });
      }),
  });
  const ids = (): string[] => begun.map(({ id }) => id);
  /** Ends all reads that were begun, and those that begin then, until nobody waits. */
  const endAll = async (): Promise<void> => {
    for (let at = 0; at < begun.length; at += 1) {
      begun[at]?.answer(`read ${begun[at]?.id}`);
      if (at === begun.length - 1) await settled();
    }
  };
  return { reads, begun, ids, endAll };
}

/** Lets everything run that waits for nothing but its turn. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

const at = (lane: Lane, account = 'a', owner = account): ReadQueueKey => ({ lane, owner, account });
const overloaded = { code: 'overloaded', retryAfterSeconds: 1 };

describe('two lanes', () => {
  test('each have reads of their own; the doubtful one a quarter of all', async () => {
    const { reads, begun, ids } = setUp();
    for (let n = 0; n < READS_MAX; n += 1) {
      void reads.read(`d${n}`, at('doubtful'));
      void reads.read(`m${n}`, at('main'));
    }
    await settled();
    expect(ids().filter((id) => id.startsWith('d'))).toHaveLength(DOUBTFUL);
    expect(ids().filter((id) => id.startsWith('m'))).toHaveLength(MAIN);
    begun.find(({ id }) => id === 'd0')?.answer('x');
    await settled();
    expect(ids().filter((id) => id.startsWith('d'))).toHaveLength(DOUBTFUL + 1);
    expect(ids().filter((id) => id.startsWith('m'))).toHaveLength(MAIN);
  });

  test('have one read each in the smallest pool', async () => {
    const { reads, ids } = setUp(1);
    for (const id of ['m0', 'm1']) void reads.read(id, at('main'));
    for (const id of ['d0', 'd1']) void reads.read(id, at('doubtful'));
    expect(ids()).toEqual(['m0', 'd0']);
  });

  test('too many reads in the doubtful one get 503, and the main one continues', async () => {
    const { reads, begun, endAll } = setUp();
    const flood = Array.from({ length: DOUBTFUL + COLD_READS_WAITING_MAX + 50 }, (_, n) =>
      reads.read(`d${n}`, at('doubtful')),
    );
    const outcomes = Promise.allSettled(flood);
    const read = reads.read('m', at('main'));
    begun.find(({ id }) => id === 'm')?.answer('here');
    expect(await read).toBe('here');
    await endAll();
    const refused = (await outcomes).filter((one) => one.status === 'rejected');
    expect(refused).toHaveLength(50);
    for (const { reason } of refused) expect(reason).toMatchObject(overloaded);
  });

  test('one sender is served while another one floods either lane', async () => {
    for (const lane of ['main', 'doubtful'] as const) {
      const { reads, begun, endAll, ids } = setUp();
      const flood = Array.from({ length: 2 * COLD_READS_WAITING_MAX }, (_, n) =>
        reads.read(`f${n}`, at(lane, 'flood')).catch(() => 'refused'),
      );
      const honest = Array.from({ length: 5 }, (_, n) => reads.read(`h${n}`, at(lane, 'honest')));
      const before = begun.length;
      for (const one of begun.slice(0, before)) one.answer('x');
      await settled();
      // Its turn comes after each of the flood's, not after all of them.
      expect(
        ids()
          .slice(before, before + 2)
          .some((id) => id.startsWith('h')),
      ).toBe(true);
      await endAll();
      expect(await Promise.all(honest)).toEqual([0, 1, 2, 3, 4].map((n) => `read h${n}`));
      await Promise.all(flood);
    }
  });

  test('one address cannot fill the queue: a later sender removes the last read of the flood', async () => {
    const { reads, endAll } = setUp();
    const flood = Array.from({ length: DOUBTFUL + COLD_READS_WAITING_MAX }, (_, n) =>
      reads.read(`f${n}`, at('doubtful', 'flood')),
    );
    const outcomes = Promise.allSettled(flood);
    const others = Array.from({ length: 20 }, (_, n) => reads.read(`o${n}`, at('doubtful', `other ${n}`)));
    await endAll();
    expect(await Promise.all(others)).toHaveLength(20);
    expect((await outcomes).filter(({ status }) => status === 'rejected')).toHaveLength(20);
  });
});

describe('one key', () => {
  test('is read once for all requests, also while that read waits', async () => {
    const { reads, ids, endAll } = setUp();
    for (let n = 0; n < MAIN; n += 1) void reads.read(`m${n}`, at('main'));
    const all = Array.from({ length: 50 }, () => reads.read('key', at('main')));
    await endAll();
    expect(new Set(await Promise.all(all))).toEqual(new Set(['read key']));
    expect(ids().filter((id) => id === 'key')).toHaveLength(1);
  });

  test('is read from the queue in which its turn comes first: a flood does not delay the holder', async () => {
    const { reads, begun, ids } = setUp();
    const flood = Array.from({ length: 500 }, (_, n) => reads.read(`f${n}`, at('doubtful', 'flood')));
    const byFlood = reads.read('key', at('doubtful', 'flood'));
    const byHolder = reads.read('key', at('main', 'holder'));
    expect(ids()).toContain('key');
    begun.find(({ id }) => id === 'key')?.answer('here');
    expect(await Promise.all([byFlood, byHolder])).toEqual(['here', 'here']);
    void flood;
  });

  test('is still read for others when one request for it is refused', async () => {
    const { reads, endAll } = setUp();
    const flood = Array.from({ length: DOUBTFUL + COLD_READS_WAITING_MAX }, (_, n) =>
      reads.read(`f${n}`, at('doubtful', 'flood')),
    );
    const outcomes = Promise.allSettled(flood);
    const byFlood = reads.read('key', at('doubtful', 'flood')).catch((error: PantheonError) => error.code);
    expect(await byFlood).toBe('overloaded');
    const byOther = reads.read('key', at('doubtful', 'other'));
    await endAll();
    expect(await byOther).toBe('read key');
    await outcomes;
  });

  test('that cannot be read is an error for all waiting requests, and the next one reads again', async () => {
    const { reads, begun } = setUp();
    const outage = new PantheonError('store_unavailable');
    const waiting = [reads.read('key', at('main')), reads.read('key', at('main', 'b'))];
    begun[0]?.fail(outage);
    for (const one of waiting) await expect(one).rejects.toBe(outage);
    await settled();
    const again = reads.read('key', at('main'));
    begun[1]?.answer('here');
    expect(await again).toBe('here');
  });
});

describe('an event about the key', () => {
  test('invalidates a read in progress: no later request joins it', async () => {
    for (const invalidate of [
      (reads: ColdReads<string>) => reads.invalidate('key'),
      (reads: ColdReads<string>) => reads.invalidateAll(),
    ]) {
      const { reads, begun } = setUp();
      const early = reads.read('key', at('main'));
      invalidate(reads);
      const late = reads.read('key', at('main'));
      expect(begun.map(({ isInvalidated }) => isInvalidated())).toEqual([true, false]);
      begun[0]?.answer('old');
      begun[1]?.answer('new');
      expect(await Promise.all([early, late])).toEqual(['old', 'new']);
    }
  });

  test('does not invalidate a read that has not begun: it will read the new row', async () => {
    const { reads, begun, endAll } = setUp();
    for (let n = 0; n < MAIN; n += 1) void reads.read(`m${n}`, at('main'));
    const waiting = reads.read('key', at('main'));
    reads.invalidate('key');
    await endAll();
    expect(await waiting).toBe('read key');
    expect(begun.filter(({ id }) => id === 'key').map(({ isInvalidated }) => isInvalidated())).toEqual([false]);
  });
});
