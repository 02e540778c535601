/** Moves the time of a test until jobs in the background have run. */
import { expect, vi } from 'vitest';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import type { TestClock } from '../src/testing/test-clock.ts';

type Status = ReturnType<PantheonAuth['jobs']>[number];

export function jobOf(auth: PantheonAuth, name: string): Status {
  const status = auth.jobs().find((one) => one.name === name);
  if (status === undefined) throw new Error(`There is no job ${name}.`);
  return status;
}

const ANSWERS_PER_STEP = 3;

/** Until the job has run well so often more, on whichever of the nodes. */
export async function untilRuns(
  clock: TestClock,
  nodes: readonly PantheonAuth[],
  name: string,
  more: number,
): Promise<void> {
  const runs = (): number => nodes.reduce((sum, one) => sum + jobOf(one, name).successes, 0);
  const wanted = runs() + more;
  await vi.waitFor(
    async () => {
      // In steps that are shorter than what a write may wait, and as many answers of the store between them as a run needs,
      // however long they take: else a lease runs out before it can be renewed.
      if (runs() < wanted) clock.advance(4_000);
      for (let answers = 0; answers < ANSWERS_PER_STEP; answers += 1) await Promise.all(nodes.map((one) => one.ping()));
      expect(runs()).toBeGreaterThanOrEqual(wanted);
    },
    { timeout: 100_000, interval: 10 },
  );
}
