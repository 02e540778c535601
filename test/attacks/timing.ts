/** Whether two pieces of work take the same time, as far as it can be told from outside: Welch's t of interleaved samples. */

/** What lies beyond this part of the samples is the machine, not the work. */
const KEPT = 0.9;

export interface Comparison {
  readonly t: number;
  /** The middle of each series, in microseconds. */
  readonly medianUs: readonly [number, number];
}

/** Each piece of work is told which sample it makes. */
export async function compareTimes(
  samples: number,
  one: (sample: number) => unknown,
  other: (sample: number) => unknown,
): Promise<Comparison> {
  const times: [number[], number[]] = [[], []];
  for (let at = 0; at < samples; at += 1) {
    // Turn by turn the other way round, so that neither always comes second.
    const order = at % 2 === 0 ? [0, 1] : [1, 0];
    for (const which of order) {
      const started = performance.now();
      await (which === 0 ? one : other)(at);
      times[which]?.push((performance.now() - started) * 1_000);
    }
  }
  const [a, b] = [summary(times[0]), summary(times[1])];
  const t = (a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count);
  return { t, medianUs: [a.median, b.median] };
}

interface Summary {
  readonly mean: number;
  readonly median: number;
  readonly variance: number;
  readonly count: number;
}

function summary(times: readonly number[]): Summary {
  const sorted = [...times].sort((x, y) => x - y);
  const kept = sorted.slice(0, Math.floor(times.length * KEPT));
  const mean = kept.reduce((sum, time) => sum + time, 0) / kept.length;
  const variance = kept.reduce((sum, time) => sum + (time - mean) ** 2, 0) / (kept.length - 1);
  return { mean, median: sorted[Math.floor(sorted.length / 2)] ?? 0, variance, count: kept.length };
}
