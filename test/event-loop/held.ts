/** How long something keeps the event loop of the main thread from turning. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';

/** A machine that is busy with other things holds the loop too. The least of these is what the work itself does. */
const RUNS = 3;
/** So often at most, while the result is more than what may be. */
const RUNS_MAX = 6;
const LOOK_EVERY_MS = 1;

/**
 * The longest that the event loop did not turn while this ran, in milliseconds: the least of several runs. What the machine
 * gives to others meanwhile does not count, the time that this thread was at work for in one turn does.
 */
export async function heldMs(
  run: () => Promise<unknown>,
  options: { readonly enoughMs: number; readonly runsMax?: number },
): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let n = 0; n < RUNS || (least > options.enoughMs && n < (options.runsMax ?? RUNS_MAX)); n += 1) {
    least = Math.min(least, await heldOnce(run));
  }
  return least;
}

async function heldOnce(run: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: LOOK_EVERY_MS });
  await pause(5);
  delay.enable();
  let workedMsMax = 0;
  let before = threadMs();
  const timer = setInterval(() => {
    const now = threadMs();
    workedMsMax = Math.max(workedMsMax, now - before);
    before = now;
  }, LOOK_EVERY_MS);
  try {
    await pause(5);
    await run();
    await pause(5);
  } finally {
    clearInterval(timer);
    delay.disable();
  }
  return Math.min(delay.max / 1e6, workedMsMax);
}

/** What this thread has been at work for. */
function threadMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}
