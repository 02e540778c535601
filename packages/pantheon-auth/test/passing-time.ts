import { vi } from 'vitest';
import { SECOND_MS } from '../src/foundation/clock.ts';
import type { TestEngine } from './test-engine.ts';

/** Seconds pass, in which jobs run and uses are stored, until it is so. */
export async function until({ auth, clock }: TestEngine, isSo: () => Promise<void>): Promise<void> {
  await vi.waitFor(
    async () => {
      clock.advance(SECOND_MS);
      await auth.ping();
      await isSo();
    },
    { timeout: 30_000, interval: 5 },
  );
}
