/**
 * Corrects the recorded time of a database after an operator has confirmed it, with an event. Only this can set the
 * recorded time back.
 */
import { repairClock } from '../api-keys/clock-repair.ts';
import { assertFlag } from '../commands/input.ts';
import { PROCESS_ACTOR } from '../domain/event.ts';
import type { DatedKey } from '../events/stored-time.ts';
import { isBehind } from '../events/stored-time.ts';
import { openEngine } from './open-engine.ts';
import type { PantheonAuthOptions } from './options.ts';

/** The readings of the clocks, and what was changed. */
export interface ClockAcceptance {
  /** The latest time recorded in the database. */
  readonly recorded: Date;
  /** The current time, of this machine or of the database server. */
  readonly now: Date;
  /** Whether the recorded time is so far ahead that no node starts. Otherwise there is nothing to do. */
  readonly isNeeded: boolean;
  /** Null: nothing was changed. */
  readonly done: AcceptedDates | null;
}

/** What was changed. */
export interface AcceptedDates {
  /** Number of keys that were changed in the wrong time and have been corrected. */
  readonly keysCorrected: number;
  /** Number of signing keys that were replaced. Every token that they had signed is invalid. */
  readonly signingKeysReplaced: number;
  /** Damaged keys, which were not changed. Revoke them. */
  readonly keysLeft: readonly DatedKey[];
}

/**
 * Corrects a database on which no node starts (`clock_in_doubt`) because its recorded time is in the future: a node ran
 * on it with a clock that was ahead. Stop every node, correct the clocks, check the result of this call, then call it
 * again with `apply`.
 *
 * With `apply` the current time is recorded, with the event `store.clock_accepted`. All signing keys are replaced, so
 * that tokens dated in the wrong time do not become valid when that time comes. In keys that were changed in the wrong
 * time, future dates are set to now and older versions end. What was revoked, suspended or retired stays so. A key
 * whose `expiresAt` had passed only by the wrong clock is accepted again until that date. An `expiresAt` that was set
 * in the wrong time on an older key is not changed.
 *
 * @throws PantheonError as `createPantheonAuth`; `clock_in_doubt` only while the clocks of this machine and the
 * database server differ.
 *
 * @example
 * ```ts
 * import { acceptClock } from 'pantheon-auth';
 *
 * const { recorded, now, isNeeded } = await acceptClock({ dataDir: './data', issuer: 'https://auth.example.com' });
 * console.log(isNeeded, recorded, now);
 * ```
 */
export async function acceptClock(
  options: PantheonAuthOptions,
  { apply = false, reason }: { readonly apply?: boolean; readonly reason?: string } = {},
): Promise<ClockAcceptance> {
  assertFlag('apply', apply);
  const engine = await openEngine(withoutLimits(options), true);
  try {
    const { reading, database, changes, signingKeys, events, clock } = engine;
    const { time, ledger } = database;
    const isNeeded = isBehind(reading);
    const by = { actor: PROCESS_ACTOR, requestId: null, reason: reason ?? null };
    const done =
      apply && isNeeded ? await repairClock(reading, by, { time, changes, signingKeys, ledger, events, clock }) : null;
    return { recorded: new Date(reading.latest), now: new Date(reading.now), isNeeded, done };
  } finally {
    await engine.close();
  }
}

/** Without a limiter: nothing is verified here, and this process does not register as a node. */
function withoutLimits(options: PantheonAuthOptions): PantheonAuthOptions {
  if (options.database !== undefined) return { ...options, limits: 'local' };
  const { limits: _unused, ...rest } = options;
  return rest;
}
