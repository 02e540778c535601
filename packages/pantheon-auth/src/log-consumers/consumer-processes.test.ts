/** A consumer of the log that is far behind, whose process dies again and again. */
import { randomInt } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import { type DatabaseProcess, startOnDatabase } from '../../test/database-process.ts';
import { addEvents } from '../../test/many-events.ts';
import { openScratchDatabase } from '../../test/store.ts';

const EVENTS = 100_000;
const KILLS = 4;
/** Short, so that the test is. */
const TIMES = { runHoldMs: 1_500, graceMs: 500 };

/** Tells the first and the last event of each batch before it takes it for consumed. */
const SOURCE = `
  const { EventCodec } = await load('events/event-codec.ts');
  const { JobRunner } = await load('jobs/job-runner.ts');
  const { LogConsumers } = await load('log-consumers/log-consumers.ts');
  const [nodeId] = args;
  const jobs = new JobRunner({
    rows: db.jobLeases, clock, nodeId, times: ${JSON.stringify(TIMES)},
    onFailure: (_job, error) => tell('failed ' + error.code),
  });
  const events = new EventCodec(db.events, {});
  new LogConsumers({ jobs, cursors: db.logCursors, log: db.log, events, clock }).register({
    name: 'watcher', startsAt: 'beginning',
    consume: async (some) => tell('batch ' + some[0].seq + ' ' + some.at(-1).seq + ' ' + some.length),
  });
  jobs.start();
  setInterval(() => {}, 1_000);
`;

interface Batch {
  readonly first: number;
  readonly last: number;
}

function batchesOf({ lines }: DatabaseProcess): Batch[] {
  return lines
    .filter((line) => line.startsWith('batch'))
    .map((line) => {
      const [first = 0, last = 0, count] = line.split(' ').slice(1).map(Number);
      expect(count).toBe(last - first + 1);
      return { first, last };
    });
}

test('a consumer that is 100,000 events behind and is killed gets every event in order, and only the batch of a kill again', async () => {
  await using scratch = await openScratchDatabase();
  await addEvents(scratch, EVENTS);
  let reached = 0;
  let repeated = 0;
  for (let round = 0; round <= KILLS; round += 1) {
    await using node = startOnDatabase(scratch, SOURCE, [`node-${round}`]);
    const isLast = round === KILLS;
    const wanted = isLast ? EVENTS : reached + randomInt(1_000, Math.floor((EVENTS - reached) / 3));
    await vi.waitFor(() => expect(batchesOf(node).at(-1)?.last ?? 0).toBeGreaterThanOrEqual(wanted), {
      timeout: 120_000,
      interval: 2,
    });
    await node.kill();
    let next = reached;
    for (const { first, last } of batchesOf(node)) {
      // The first batch may be the last of the process before, which had no time to store its cursor.
      if (first <= reached) {
        expect(next).toBe(reached);
        repeated += 1;
      } else {
        expect(first).toBe(next + 1);
      }
      next = Math.max(next, last);
    }
    expect(node.lines.filter((line) => line.startsWith('failed'))).toEqual([]);
    reached = next;
  }
  expect(reached).toBe(EVENTS);
  expect(repeated).toBeLessThanOrEqual(KILLS);
}, 600_000);
