/** Consumers of the log over a real store. What a kill and a failover do is told in the two files beside this one. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { addEvents } from '../../test/many-events.ts';
import { changeLog, openScratchDatabase, type ScratchDatabase, STORE } from '../../test/store.ts';
import { EventCodec } from '../events/event-codec.ts';
import { NonDecreasingClock } from '../foundation/clock.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import { sampleEvent } from '../testing/scratch-database.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { LogConsumer } from './log-consumer.ts';
import { LogConsumers } from './log-consumers.ts';

const SETTLED = { timeout: 20_000, interval: 10 };
/** What is sealed in a sample event is filler: it is told as damaged, and where it stands is told all the same. */
const SEALER = { open: async () => Buffer.alloc(0) } as unknown as Sealer;

let clock: TestClock;
let scratch: ScratchDatabase;
const runners: JobRunner[] = [];

beforeEach(async () => {
  clock = new TestClock();
  scratch = await openScratchDatabase({ clock });
});

afterEach(async () => {
  for (const runner of runners.splice(0)) await runner.close();
  await scratch[Symbol.asyncDispose]();
});

interface Consuming {
  readonly runner: JobRunner;
  readonly failures: unknown[];
  /** The seqs of each batch that was consumed well. */
  readonly batches: number[][];
}

/** A node with one consumer. */
function consume(nodeId: string, over: Partial<LogConsumer> = {}): Consuming {
  const nodeClock = new NonDecreasingClock(clock);
  const failures: unknown[] = [];
  const batches: number[][] = [];
  const { jobLeases: rows, logCursors: cursors, log } = scratch.db;
  const onFailure = (_job: string, error: unknown) => void failures.push(error);
  const runner = new JobRunner({ rows, clock: nodeClock, nodeId, onFailure });
  const events = new EventCodec(scratch.db.events, SEALER);
  new LogConsumers({ jobs: runner, cursors, log, events, clock: nodeClock }).register({
    name: 'watcher',
    startsAt: 'beginning',
    ...over,
    consume: async (some, run) => {
      await over.consume?.(some, run);
      batches.push(some.map(({ seq }) => seq));
    },
  });
  runner.start();
  runners.push(runner);
  return { runner, failures, batches };
}

const commit = async (many: number): Promise<void> => {
  for (let n = 0; n < many; n += 1)
    await scratch.db.ledger.commit({ changes: [], events: [sampleEvent({ at: clock.now() })] });
};

/** Moves time until it is so. */
async function until(isSo: () => void): Promise<void> {
  await vi.waitFor(() => {
    try {
      isSo();
    } catch (error) {
      clock.advance(500);
      throw error;
    }
  }, SETTLED);
}

const upTo = (last: number, first = 1): number[] => Array.from({ length: last - first + 1 }, (_, n) => n + first);
const cursorOf = async () => (await scratch.sql('select seq from log_consumers'))[0]?.['seq'];

test('every event is passed once, in order, later ones and earlier ones', async () => {
  await commit(3);
  const one = consume('a');
  await until(() => expect(one.batches.flat()).toEqual(upTo(3)));
  await commit(2);
  await until(() => expect(one.batches.flat()).toEqual(upTo(5)));
  await until(() => expect(one.runner.status()[0]?.isRunning).toBe(false));
  expect(Number(await cursorOf())).toBe(5);
  expect(one.failures).toEqual([]);
});

test('a consumer that starts at the head is passed the events after its first run, and no earlier one', async () => {
  await commit(3);
  const one = consume('a', { startsAt: 'head' });
  await until(() => expect(one.runner.status()[0]?.successes).toBeGreaterThan(0));
  await commit(2);
  await until(() => expect(one.batches.flat()).toEqual([4, 5]));
});

test('while nothing happens, nothing is written', async () => {
  await commit(1);
  const one = consume('a');
  await until(() => expect(one.batches.flat()).toEqual([1]));
  await until(() => expect(one.runner.status()[0]?.isRunning).toBe(false));
  await new Promise((resolve) => setTimeout(resolve, 100));
  const before = scratch.statements.length;
  for (let n = 0; n < 20; n += 1) {
    clock.advance(1_000);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const asked = scratch.statements.slice(before);
  expect(asked.length).toBeGreaterThan(5);
  expect(asked.filter((sql) => !sql.startsWith('select'))).toEqual([]);
});

test('many events are passed in batches of a bounded size', async () => {
  await addEvents(scratch, 1_000);
  const one = consume('a');
  await until(() => expect(one.batches.flat()).toHaveLength(1_000));
  expect(one.batches.map((batch) => batch.length)).toEqual([200, 200, 200, 200, 200]);
  expect(one.batches.flat()).toEqual(upTo(1_000));
});

test('a failed batch is passed again, from the cursor on, until it succeeds; what came before it is not', async () => {
  await addEvents(scratch, 300);
  let fails = 3;
  const tried: number[] = [];
  const one = consume('a', {
    consume: async (events) => {
      tried.push(events[0]?.seq ?? 0);
      if (events[0]?.seq === 201 && fails > 0) {
        fails -= 1;
        throw new Error('the receiver is away');
      }
    },
  });
  await until(() => expect(one.batches.flat()).toEqual(upTo(300)));
  expect(tried).toEqual([1, 201, 201, 201, 201]);
  expect(one.failures.map(String)).toEqual(Array.from({ length: 3 }, () => 'Error: the receiver is away'));
});

test('each event is passed on one of several nodes', async () => {
  const nodes = ['a', 'b', 'c'].map((name) => consume(name));
  for (let round = 1; round <= 5; round += 1) {
    await commit(3);
    await until(() => expect(nodes.flatMap(({ batches }) => batches.flat()).length).toBe(round * 3));
  }
  expect(nodes.flatMap(({ batches }) => batches.flat()).toSorted((a, b) => a - b)).toEqual(upTo(15));
});

test('a run that has lost its lease stores no cursor', async () => {
  await commit(2);
  let isTaken = false;
  const one = consume('a', {
    consume: async (_events, { lease }) => {
      if (isTaken) return;
      isTaken = true;
      const seen = await scratch.db.jobLeases.find('watcher', clock.now());
      const hold = { nodeId: 'b', holdMs: 1, now: clock.now() };
      expect(await scratch.db.jobLeases.take('watcher', seen, hold)).toBe(lease.fence + 1);
    },
  });
  await until(() => expect(one.batches).toHaveLength(2));
  // Once by the run that lost its lease, and once by the next.
  expect(one.batches).toEqual([upTo(2), upTo(2)]);
  expect(one.failures).toMatchObject([{ code: 'conflict' }]);
});

test('a cursor moves only from where it was read, and only to an existing event', async () => {
  await commit(2);
  const { jobLeases, logCursors, log } = scratch.db;
  const hold = { nodeId: 'a', holdMs: 60_000, now: clock.now() };
  await jobLeases.take('watcher', null, hold);
  const lease = { kind: 'lease', name: 'watcher', nodeId: 'a', fence: 1 } as const;
  const [first, second] = await log.noticesFrom(1, 2);
  const start = { seq: 0, eventId: null };
  const one = { seq: 1, eventId: first?.id ?? '' };
  const two = { seq: 2, eventId: second?.id ?? '' };
  const conflict = { code: 'conflict' };
  await expect(logCursors.insert('watcher', { ...two, eventId: 'lost' }, lease)).rejects.toMatchObject(conflict);
  await expect(logCursors.insert('watcher', start, { ...lease, fence: 2 })).rejects.toMatchObject(conflict);
  await logCursors.insert('watcher', start, lease);
  await expect(logCursors.advance('watcher', one, two, lease)).rejects.toMatchObject(conflict);
  await expect(logCursors.advance('watcher', start, { seq: 3, eventId: 'lost' }, lease)).rejects.toMatchObject(
    conflict,
  );
  await expect(logCursors.advance('watcher', start, one, { ...lease, nodeId: 'b' })).rejects.toMatchObject(conflict);
  await logCursors.advance('watcher', start, one, lease);
  await expect(logCursors.advance('watcher', { ...one, eventId: 'x' }, two, lease)).rejects.toMatchObject(conflict);
  await logCursors.advance('watcher', one, two, lease);
  expect(await logCursors.find('watcher')).toEqual(two);
});

test.each([
  ['was cut', ['update log_head set seq = 1', 'delete from events where seq > 1']],
  ['is another one', [`update events set id = 'another' where seq = 3`]],
])(
  'a log that %s is detected: nothing is skipped and nothing repeated, and the error says what to do',
  async (_how, changes) => {
    await commit(3);
    const one = consume('a');
    await until(() => expect(one.batches.flat()).toEqual(upTo(3)));
    await until(() => expect(one.runner.status()[0]?.isRunning).toBe(false));
    if (STORE === 'sqlite') await scratch.sql('drop trigger if exists events_no_delete');
    for (const change of changes) await changeLog(scratch, change);
    await until(() => expect(one.failures.length).toBeGreaterThan(0));
    expect(one.failures[0]).toMatchObject({ code: 'store_unusable', detail: expect.stringContaining('after event 3') });
    expect(one.batches.flat()).toEqual(upTo(3));
    // As the error says.
    await scratch.sql('delete from log_consumers');
    const left = (await scratch.sql('select seq from events')).length;
    await until(() => expect(one.batches.flat()).toEqual([...upTo(3), ...upTo(left)]));
  },
);
