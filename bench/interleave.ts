/**
 * Runs alternatives in turn, round after round in one process, and compares them round by round: whatever else the
 * machine does in a round happens to all of them, so a ratio holds where a time would not.
 */

export interface Alternative {
  readonly name: string;
  /** Calls in one round: as many as take a few milliseconds. */
  readonly calls: number;
  /** Does the work that many times. */
  readonly run: (calls: number) => void | Promise<void>;
}

export interface Measured {
  readonly name: string;
  /** Per call, in microseconds: of each round, sorted. */
  readonly microseconds: readonly number[];
}

/** Rounds before counting starts: the optimiser has seen everything by then. */
const WARM_UP_ROUNDS = 10;

/** Measures all alternatives over `rounds` rounds. */
export async function interleave(
  alternatives: readonly Alternative[],
  rounds: number,
): Promise<ReadonlyMap<string, readonly number[]>> {
  const times = new Map<string, number[]>(alternatives.map(({ name }) => [name, []]));
  for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
    for (const { name, calls, run } of alternatives) {
      const start = process.hrtime.bigint();
      await run(calls);
      const microseconds = Number(process.hrtime.bigint() - start) / 1_000 / calls;
      if (round >= 0) times.get(name)?.push(microseconds);
    }
  }
  return times;
}

/** The middle of the ratios, round by round, with the quarters around it. */
export function ratio(
  times: ReadonlyMap<string, readonly number[]>,
  of: string,
  to: string,
): { median: number; low: number; high: number } {
  const numerators = times.get(of) ?? [];
  const denominators = times.get(to) ?? [];
  const ratios = numerators.map((time, round) => time / (denominators[round] ?? Number.NaN)).sort((a, b) => a - b);
  return { median: at(ratios, 0.5), low: at(ratios, 0.25), high: at(ratios, 0.75) };
}

/** The middle time of an alternative, in microseconds per call. */
export function median(times: ReadonlyMap<string, readonly number[]>, name: string): number {
  return at(
    [...(times.get(name) ?? [])].sort((a, b) => a - b),
    0.5,
  );
}

function at(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** One line of a result: a ratio beside what was asked for. */
export function report(what: string, value: { median: number; low: number; high: number }, wanted: string): string {
  const shown = value.median >= 20 ? value.median.toFixed(0) : value.median.toFixed(2);
  const range = `${value.low.toFixed(2)} to ${value.high.toFixed(2)}`;
  return `${what.padEnd(58)} ${shown.padStart(8)}   (${range})   wanted: ${wanted}`;
}
