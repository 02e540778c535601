/** Where a job goes when the process that runs it dies, or stands still. */
import { expect, test, vi } from 'vitest';
import { startOnDatabase } from '../../test/database-process.ts';
import { openScratchDatabase } from '../../test/store.ts';

/** Short, so that the test is: what they are in the product is `job-lease.ts`. */
const TIMES = { runHoldMs: 1_500, graceMs: 500 };
const EVERY_MS = 300;
/** Until a lease is over and another node has looked, on a busy machine. */
const MOVED = { timeout: 20_000, interval: 20 };

/** Tells each run with the name of the process and the number of the run; `hangs`: the run ends only when it is told to. */
const SOURCE = `
  const { JobRunner } = await load('jobs/job-runner.ts');
  const [name, hangs] = args;
  const runner = new JobRunner({
    rows: db.jobLeases, clock, nodeId: name, times: ${JSON.stringify(TIMES)},
    onFailure: (_job, error) => tell('failed ' + error.code),
  });
  runner.add({
    name: 'sweep', everyMs: ${EVERY_MS}, runMsMax: 60_000,
    run: async ({ lease, signal }) => {
      tell('begins ' + name + ' ' + lease.fence);
      if (hangs === 'hangs') await new Promise((resolve) => signal.addEventListener('abort', resolve));
      tell('ends ' + name + ' ' + lease.fence);
    },
  });
  runner.start();
  setInterval(() => {}, 1_000);
`;

const fencesOf = (lines: readonly string[]): number[] =>
  lines.filter((line) => line.startsWith('begins')).map((line) => Number(line.split(' ')[2]));

test.each(['between two runs', 'in the middle of a run'])(
  'a job moves to another process when its own is killed %s, and its runs continue to be counted',
  async (when) => {
    await using scratch = await openScratchDatabase();
    const hangs = when === 'in the middle of a run' ? 'hangs' : 'ends';
    await using first = startOnDatabase(scratch, SOURCE, ['first', hangs]);
    await vi.waitFor(
      () => expect(fencesOf(first.lines).length).toBeGreaterThanOrEqual(hangs === 'hangs' ? 1 : 2),
      MOVED,
    );
    await using second = startOnDatabase(scratch, SOURCE, ['second', 'ends']);
    await using third = startOnDatabase(scratch, SOURCE, ['third', 'ends']);
    await vi.waitFor(async () => expect((await scratch.sql('select 1 as n')).length).toBe(1), MOVED);
    await first.kill();
    const before = fencesOf(first.lines);
    await vi.waitFor(() => expect(second.lines.length + third.lines.length).toBeGreaterThan(4), MOVED);
    const after = [...fencesOf(second.lines), ...fencesOf(third.lines)];
    // Each run has a number of its own, whoever ran it.
    const all = [...before, ...after];
    expect(new Set(all).size).toBe(all.length);
    expect(Math.min(...after)).toBeGreaterThan(Math.max(...before));
  },
  60_000,
);

test('a process that is stopped for longer than its lease finds the lease taken, and its run is aborted', async () => {
  await using scratch = await openScratchDatabase();
  await using still = startOnDatabase(scratch, SOURCE, ['still', 'hangs']);
  await vi.waitFor(() => expect(still.lines).toEqual(['begins still 1']), MOVED);
  await using other = startOnDatabase(scratch, SOURCE, ['other', 'hangs']);
  // Longer than a lease: while it is renewed nobody else takes it.
  await new Promise((resolve) => setTimeout(resolve, 2 * TIMES.runHoldMs));
  expect([still.lines, other.lines]).toEqual([['begins still 1'], []]);
  still.child.kill('SIGSTOP');
  await vi.waitFor(() => expect(other.lines).toEqual(['begins other 2']), MOVED);
  still.child.kill('SIGCONT');
  await vi.waitFor(() => expect(still.lines).toEqual(['begins still 1', 'ends still 1', 'failed conflict']), MOVED);
}, 60_000);
