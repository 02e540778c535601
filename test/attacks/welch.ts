/** Whether two pieces of work take the same time, as far as it can be told from outside: Welch's t of interleaved samples. */

/** What lies beyond this part of the samples is the machine, not the work. */
const KEPT = 0.9;

export async function welchT(samples: number, one: () => unknown, other: () => unknown): Promise<number> {
  const times: [number[], number[]] = [[], []];
  for (let at = 0; at < samples; at += 1) {
    // Turn by turn the other way round, so that neither always comes second.
    const order = at % 2 === 0 ? [0, 1] : [1, 0];
    for (const which of order) {
      const started = performance.now();
      await (which === 0 ? one : other)();
      times[which]?.push(performance.now() - started);
    }
  }
  const [a, b] = times.map(summary);
  if (a === undefined || b === undefined) throw new Error('two series');
  return (a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count);
}

function summary(times: number[]): { readonly mean: number; readonly variance: number; readonly count: number } {
  const kept = [...times].sort((x, y) => x - y).slice(0, Math.floor(times.length * KEPT));
  const mean = kept.reduce((sum, time) => sum + time, 0) / kept.length;
  const variance = kept.reduce((sum, time) => sum + (time - mean) ** 2, 0) / (kept.length - 1);
  return { mean, variance, count: kept.length };
}
