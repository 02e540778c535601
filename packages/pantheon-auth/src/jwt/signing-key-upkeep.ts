/**
 * What time makes of the signing keys, as a run of a job: the next one takes over when its turn has come, and those whose
 * last token has expired end.
 */
import { jobActor } from '../domain/event.ts';
import type { LeaseHeld } from '../events/ledger.ts';
import { type Clock, mayDeleteByAge } from '../foundation/clock.ts';
import { hasCode } from '../foundation/errors.ts';
import type { SigningKeyChanges } from './signing-key-changes.ts';
import { SIGNING_ALGORITHMS, type SigningKeyring } from './signing-keyring.ts';

export interface SigningKeyUpkeepDeps {
  readonly keyring: SigningKeyring;
  readonly changes: SigningKeyChanges;
  readonly clock: Clock;
  /** How long a key signs before the next one takes over; null: until somebody says so. */
  readonly everyMs: number | null;
}

interface Run {
  isEnding(): boolean;
  readonly lease: LeaseHeld;
}

/** While the clock is in doubt, or apart from the store's, nothing is done: neither can be undone. */
export async function keepSigningKeys(
  { keyring, changes, clock, everyMs }: SigningKeyUpkeepDeps,
  run: Run,
): Promise<void> {
  const by = { actor: jobActor(run.lease.name), requestId: null, reason: null };
  await keyring.load();
  for (const algorithm of SIGNING_ALGORITHMS) {
    if (run.isEnding() || !mayDeleteByAge(clock)) return;
    const change = await changes.decideUpkeep(algorithm, everyMs, by);
    if (change === null) continue;
    try {
      await keyring.commit({ ...change, preconditions: [run.lease] });
    } catch (error) {
      // Somebody changed them meanwhile: the next run looks again.
      if (!hasCode(error, 'conflict')) throw error;
    }
  }
}
