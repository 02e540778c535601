/** Jobs over a real store, with time that is moved by hand. What the death of a process does is `test/jobs.test.ts`. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../test/store.ts';
import { NonDecreasingClock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { sampleEvent } from '../testing/scratch-database.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { Job, JobRun, JobStatus } from './job.ts';
import type { JobLeaseRows } from './job-lease.ts';
import { JobRunner } from './job-runner.ts';

const MINUTE_MS = 60_000;
/** All that a look at a job waits for is a store on this machine. */
const SETTLED = { timeout: 10_000, interval: 1 };

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

interface Node {
  readonly runner: JobRunner;
  readonly failures: unknown[];
  status(): JobStatus;
}

function node(nodeId: string, job: Partial<Job>, rows: JobLeaseRows = scratch.db.jobLeases): Node {
  const failures: unknown[] = [];
  const runner = new JobRunner({
    rows,
    clock: new NonDecreasingClock(clock),
    nodeId,
    onFailure: (_job, error) => void failures.push(error),
  });
  runner.add({ name: 'sweep', everyMs: MINUTE_MS, runMsMax: 10 * MINUTE_MS, run: async () => {}, ...job });
  runner.start();
  runners.push(runner);
  return { runner, failures, status: () => runner.status()[0] as JobStatus };
}

/** A job whose runs end when they are told to. */
function heldJob() {
  const runs: { run: JobRun; end: (error?: Error) => void }[] = [];
  const run = (given: JobRun): Promise<void> =>
    new Promise((resolve, reject) => {
      runs.push({ run: given, end: (error) => (error === undefined ? resolve() : reject(error)) });
    });
  return { runs, run };
}

/** Lets so much time pass that whatever is due is looked at, a step at a time, as it would be. */
async function pass(ms: number, stepMs = 1_000): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    clock.advance(stepMs);
    await vi.waitFor(() => expect(isBusy()).toBe(false), SETTLED).catch(() => {});
  }
}

/** The store is being asked. A run that is held does not count. */
let pendingCalls = 0;
const isBusy = (): boolean => pendingCalls > 0;

/** Counts what the store is asked, so that time stands still meanwhile. */
function watched(rows: JobLeaseRows): JobLeaseRows {
  const count =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      pendingCalls += 1;
      try {
        return await call(...args);
      } finally {
        // What follows in the same look is asked before this is seen.
        setImmediate(() => {
          pendingCalls -= 1;
        });
      }
    };
  return {
    find: count((...args) => rows.find(...args)),
    take: count((...args) => rows.take(...args)),
    renew: count((...args) => rows.renew(...args)),
    end: count((...args) => rows.end(...args)),
  };
}

describe('over several nodes on one store', () => {
  test('a job runs on one node at a time, once in its interval, and stays on that node', async () => {
    const ran: string[] = [];
    const rows = watched(scratch.db.jobLeases);
    const nodes = ['a', 'b', 'c'].map((name) => node(name, { run: async () => void ran.push(name) }, rows));
    await pass(10 * MINUTE_MS);
    // An interval is up to a tenth shorter, and the first look comes within ten seconds.
    expect(ran.length).toBeGreaterThanOrEqual(10);
    expect(ran.length).toBeLessThanOrEqual(12);
    expect(new Set(ran).size).toBe(1);
    const holders = nodes.filter((one) => one.status().holdsLease);
    expect(holders).toHaveLength(1);
    expect(holders[0]?.status()).toMatchObject({ name: 'sweep', successes: ran.length, failures: 0, isRunning: false });
    expect(nodes.flatMap((one) => one.failures)).toEqual([]);
  });

  test('a long run is kept by its node', async () => {
    const held = heldJob();
    const rows = watched(scratch.db.jobLeases);
    const nodes = ['a', 'b'].map((name) => node(name, held, rows));
    await pass(5 * MINUTE_MS);
    expect(held.runs).toHaveLength(1);
    expect(held.runs[0]?.run.isEnding()).toBe(false);
    expect(nodes.map((one) => one.status().isRunning).toSorted()).toEqual([false, true]);
    held.runs[0]?.end();
    await vi.waitFor(() => expect(nodes.some((one) => one.status().successes === 1)).toBe(true), SETTLED);
    const [status] = nodes.map((one) => one.status()).filter((one) => one.successes === 1);
    expect(status?.lastDurationMs).toBeGreaterThan(4 * MINUTE_MS);
    expect(status?.lastSuccessAt).toEqual(new Date(clock.now()));
  });

  test('a node that stops gives its job to the others at once, and its run is aborted', async () => {
    const held = heldJob();
    const rows = watched(scratch.db.jobLeases);
    const first = node('a', held, rows);
    await pass(10_000);
    const second = node('b', held, rows);
    expect(held.runs).toHaveLength(1);
    held.runs[0]?.run.signal.addEventListener('abort', () => held.runs[0]?.end());
    await first.runner.close();
    expect(held.runs[0]?.run.isEnding()).toBe(true);
    expect(first.status()).toMatchObject({ successes: 0, failures: 0, holdsLease: false });
    await pass(10_000);
    expect(held.runs).toHaveLength(2);
    expect(second.status().isRunning).toBe(true);
    held.runs[1]?.end();
  });
});

describe('a run that fails', () => {
  test('is logged, counted and retried with growing delays, and then runs as usual', async () => {
    const at: number[] = [];
    let fails = 7;
    const run = async (): Promise<void> => {
      at.push(clock.now());
      fails -= 1;
      if (fails >= 0) throw new Error('broken');
    };
    const one = node('a', { run }, watched(scratch.db.jobLeases));
    await pass(5 * MINUTE_MS);
    expect(one.failures.map((error) => (error as Error).message)).toEqual(Array.from({ length: 7 }, () => 'broken'));
    expect(one.status()).toMatchObject({ failures: 7 });
    expect(one.status().successes).toBeGreaterThanOrEqual(1);
    const waits = at.slice(1).map((time, n) => time - (at[n] ?? 0));
    for (const [n, wait] of waits.slice(0, 7).entries()) {
      expect(wait).toBeGreaterThanOrEqual(0.9 * 1_000 * 2 ** n);
      expect(wait).toBeLessThanOrEqual(1_000 * 2 ** n + 2_000);
    }
    const [stored] = await scratch.sql('select failures from job_leases');
    expect(Number(stored?.['failures'])).toBe(0);
  });

  test('goes to a node on which it may succeed, and keeps its growing delays there', async () => {
    const ran: string[] = [];
    const rows = watched(scratch.db.jobLeases);
    const run = (name: string) => async (): Promise<void> => {
      ran.push(name);
      throw new Error('broken');
    };
    const nodes = ['a', 'b'].map((name) => node(name, { run: run(name) }, rows));
    await pass(20 * MINUTE_MS);
    expect(new Set(ran)).toEqual(new Set(['a', 'b']));
    // After 1 s, 2 s, 4 s and so on, and then each five minutes.
    expect(ran.length).toBeGreaterThanOrEqual(9);
    expect(ran.length).toBeLessThanOrEqual(14);
    const [stored] = await scratch.sql('select failures from job_leases');
    expect(Number(stored?.['failures'])).toBe(ran.length);
    expect(nodes.reduce((sum, one) => sum + one.status().failures, 0)).toBe(ran.length);
  });

  test('is aborted and counts as failed if it takes too long', async () => {
    const held = heldJob();
    const one = node('a', { ...held, runMsMax: 2 * MINUTE_MS }, watched(scratch.db.jobLeases));
    await pass(2 * MINUTE_MS);
    expect(held.runs[0]?.run.isEnding()).toBe(false);
    await pass(11_000);
    expect(held.runs[0]?.run.isEnding()).toBe(true);
    held.runs[0]?.end();
    await vi.waitFor(() => expect(one.status().failures).toBe(1), SETTLED);
    expect(String(one.failures[0])).toContain('took more than 120000 ms');
  });

  test('goes to another node soon if it does not end when it is aborted, and is logged at once', async () => {
    const stuck = heldJob();
    const one = node('a', { ...stuck, runMsMax: 2 * MINUTE_MS }, watched(scratch.db.jobLeases));
    await pass(2 * MINUTE_MS);
    await pass(11_000);
    expect(stuck.runs[0]?.run.isEnding()).toBe(true);
    expect(one.status()).toMatchObject({ failures: 1, isRunning: true });
    expect(String(one.failures[0])).toContain('took more than 120000 ms');
    // Its lease runs out by the time of the store.
    const renewed = vi.spyOn(scratch.db.jobLeases, 'renew');
    await pass(2 * MINUTE_MS);
    expect(renewed).not.toHaveBeenCalled();
    expect(one.status().holdsLease).toBe(false);
    stuck.runs[0]?.end();
    await vi.waitFor(() => expect(one.status().isRunning).toBe(false), SETTLED);
    expect(one.status().failures).toBe(1);
  });

  test('a node that stops between two runs releases its lease, and another one continues when the job is due', async () => {
    const one = node('a', {}, watched(scratch.db.jobLeases));
    await pass(11_000);
    await vi.waitFor(() => expect(one.status().successes).toBe(1), SETTLED);
    await one.runner.close();
    const two = node('b', {}, watched(scratch.db.jobLeases));
    await pass(75_000);
    expect(two.status().successes).toBe(1);
  });

  test('while the store is unavailable nothing runs, that counts as a failure, and runs continue afterwards', async () => {
    let isAway = true;
    const { jobLeases } = scratch.db;
    const rows: JobLeaseRows = {
      find: async (...args) => {
        if (isAway) throw new PantheonError('store_unavailable');
        return jobLeases.find(...args);
      },
      take: (...args) => jobLeases.take(...args),
      renew: (...args) => jobLeases.renew(...args),
      end: (...args) => jobLeases.end(...args),
    };
    let runs = 0;
    const one = node(
      'a',
      {
        run: async () => {
          runs += 1;
        },
      },
      watched(rows),
    );
    await pass(MINUTE_MS);
    expect(runs).toBe(0);
    expect(one.status().failures).toBeGreaterThan(2);
    isAway = false;
    await pass(MINUTE_MS);
    expect(one.status().successes).toBe(runs);
    expect(runs).toBeGreaterThanOrEqual(1);
  });
});

describe('a lease that is lost', () => {
  test('ends the run, also if the store is unavailable and another node may have the lease', async () => {
    const held = heldJob();
    const { jobLeases } = scratch.db;
    const rows: JobLeaseRows = {
      find: (...args) => jobLeases.find(...args),
      take: (...args) => jobLeases.take(...args),
      renew: async () => {
        throw new PantheonError('store_unavailable');
      },
      end: (...args) => jobLeases.end(...args),
    };
    const one = node('a', held, watched(rows));
    await pass(10_000);
    expect(held.runs).toHaveLength(1);
    await pass(31_000);
    expect(held.runs[0]?.run.signal.reason).toMatchObject({ code: 'conflict' });
    expect(one.status().holdsLease).toBe(false);
    held.runs[0]?.end();
    await vi.waitFor(() => expect(one.status().failures).toBe(1), SETTLED);
  });

  test('keeps the run from changing anything: its commit is refused once another run has begun', async () => {
    const held = heldJob();
    node('a', held, watched(scratch.db.jobLeases));
    await pass(10_000);
    const lease = held.runs[0]?.run.lease;
    if (lease === undefined) throw new Error('It did not run.');
    const commit = () =>
      scratch.db.ledger.commit({ changes: [], preconditions: [lease], events: [sampleEvent({ at: clock.now() })] });
    await commit();
    // As another node does when this one has stood still for too long.
    const seen = await scratch.db.jobLeases.find('sweep', clock.now());
    const hold = { nodeId: 'b', holdMs: 30_000, now: clock.now() };
    expect(await scratch.db.jobLeases.take('sweep', seen, hold)).toBe(lease.fence + 1);
    await expect(commit()).rejects.toMatchObject({ code: 'conflict' });
    await pass(11_000);
    expect(held.runs[0]?.run.isEnding()).toBe(true);
    held.runs[0]?.end();
  });

  test('of two nodes that read the same lease one takes it', async () => {
    const { jobLeases } = scratch.db;
    const now = clock.now();
    const take = async (nodeId: string, seen = null as Awaited<ReturnType<JobLeaseRows['find']>>) =>
      jobLeases.take('sweep', seen, { nodeId, holdMs: 1_000, now });
    expect((await Promise.all([take('a'), take('b')])).toSorted()).toEqual([1, null].toSorted());
    const seen = await jobLeases.find('sweep', now);
    expect(seen).toMatchObject({ fence: 1, dueAt: 0, failures: 0 });
    expect(seen?.expiresAt).toBeGreaterThanOrEqual((seen?.storeNow ?? 0) + 1_000 - 10_000);
    expect((await Promise.all([take('a', seen), take('b', seen)])).toSorted()).toEqual([2, null].toSorted());
    // A renewal, too, is something that the other has not seen.
    const holder = (await jobLeases.find('sweep', now))?.nodeId ?? '';
    const held = { kind: 'lease', name: 'sweep', nodeId: holder, fence: 2 } as const;
    const before = await jobLeases.find('sweep', now);
    expect(await jobLeases.renew(held, { holdMs: 90_000, now })).toBe(true);
    expect(await take('b', before)).toBe(null);
    expect(await jobLeases.renew({ ...held, fence: 1 }, { holdMs: 90_000, now })).toBe(false);
    // As after a failover that lost the run of one node, and let another begin one of the same number.
    expect(await jobLeases.renew({ ...held, nodeId: 'other' }, { holdMs: 90_000, now })).toBe(false);
    expect(await jobLeases.end({ ...held, fence: 1 }, { holdMs: 0, now, dueAt: 0, failures: 0 })).toBe(false);
  });
});

test('a job that is not needed takes no lease and writes nothing', async () => {
  let isNeeded = false;
  let runs = 0;
  const job = {
    isNeeded: async () => isNeeded,
    run: async () => {
      runs += 1;
    },
  };
  node('a', job, watched(scratch.db.jobLeases));
  await pass(3 * MINUTE_MS);
  expect(await scratch.sql('select * from job_leases')).toEqual([]);
  isNeeded = true;
  await pass(2 * MINUTE_MS);
  expect(runs).toBeGreaterThanOrEqual(1);
});

test('a name is used once', () => {
  const { runner } = node('a', {});
  expect(() => runner.add({ name: 'sweep', everyMs: 1, runMsMax: 1, run: async () => {} })).toThrow(/name of its own/);
});
