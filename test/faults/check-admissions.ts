/**
 * The judge of limits: pure. An admission happened at some moment between its call and its answer, so those count whose
 * whole interval lies in a window: that many were admitted in it for certain.
 */
import type { Operation } from './history.ts';

/** The most admissions that certainly lie in one window of this length, wherever it begins. */
export function mostAdmittedInAnyWindow(operations: readonly Operation[], windowMs: number): number {
  const admitted = admissions(operations);
  const byCall = admitted.toSorted((a, b) => a.invokedAtMs - b.invokedAtMs);
  let most = 0;
  for (const [index, first] of byCall.entries()) {
    const endMs = first.invokedAtMs + windowMs;
    let count = 0;
    for (let at = index; at < byCall.length; at += 1) {
      const one = byCall[at];
      if (one === undefined || one.invokedAtMs > endMs) break;
      if (one.returnedAtMs <= endMs) count += 1;
    }
    most = Math.max(most, count);
  }
  return most;
}

/** Verifications that were answered with a yes. */
export function admissions(
  operations: readonly Operation[],
): readonly (Operation & { readonly returnedAtMs: number })[] {
  return operations.filter(
    (one): one is Operation & { readonly returnedAtMs: number } =>
      one.op === 'verify' && one.outcome.kind === 'yes' && one.returnedAtMs !== null,
  );
}
