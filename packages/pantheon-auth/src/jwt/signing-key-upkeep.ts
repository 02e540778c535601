/**
 * One run of the job that keeps the signing keys: a standby key replaces one that has signed for long enough, and those
 * whose last token has expired are retired.
 */
import { jobActor } from '../domain/event.ts';
import type { LeaseHeld } from '../events/ledger.ts';
import { type Clock, isTimeCertain } from '../foundation/clock.ts';
import { hasCode } from '../foundation/errors.ts';
import type { SigningKeyChanges } from './signing-key-changes.ts';
import { SIGNING_ALGORITHMS, type SigningKeyring } from './signing-keyring.ts';

export interface SigningKeyUpkeepDeps {
  readonly keyring: SigningKeyring;
  readonly changes: SigningKeyChanges;
  readonly clock: Clock;
  /** How long a key signs before the standby key replaces it; null: until a caller rotates it. */
  readonly everyMs: number | null;
}

interface Run {
  isEnding(): boolean;
  readonly lease: LeaseHeld;
}

/** Does nothing while the clock is in doubt or differs from that of the database, because retiring is final. */
export async function keepSigningKeys(
  { keyring, changes, clock, everyMs }: SigningKeyUpkeepDeps,
  run: Run,
): Promise<void> {
  const by = { actor: jobActor(run.lease.name), requestId: null, reason: null };
  await keyring.load();
  for (const algorithm of SIGNING_ALGORITHMS) {
    if (run.isEnding() || !isTimeCertain(clock)) return;
    const change = await changes.decideUpkeep(algorithm, everyMs, by);
    if (change === null) continue;
    try {
      await keyring.commit({ ...change, preconditions: [run.lease] });
    } catch (error) {
      // Another change came first; the next run decides again.
      if (!hasCode(error, 'conflict')) throw error;
    }
  }
}
