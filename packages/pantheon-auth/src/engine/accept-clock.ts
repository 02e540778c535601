/**
 * How a store goes on whose recorded time is wrong: by an operator's word, with an event. It is the only way in which time
 * goes back.
 */
import { repairClock } from '../api-keys/clock-repair.ts';
import { PROCESS_ACTOR } from '../domain/event.ts';
import type { DatedKey } from '../events/stored-time.ts';
import { isBehind } from '../events/stored-time.ts';
import { openEngine } from './open-engine.ts';
import type { PantheonAuthOptions } from './options.ts';

/** What the clocks say, and what was done about it. */
export interface ClockAcceptance {
  /** The latest time that the database has seen, by its own records. */
  readonly recorded: Date;
  /** The time now, by this machine or by the server of the database. */
  readonly now: Date;
  /** Whether the record is so far ahead of now that no node starts. Otherwise there is nothing to accept. */
  readonly isNeeded: boolean;
  /** Null: nothing was changed. */
  readonly done: AcceptedDates | null;
}

/** What accepting the time put right. */
export interface AcceptedDates {
  /** Keys that were changed in the wrong time. */
  readonly keysCorrected: number;
  /** Signing keys that were replaced: every token that they had signed is dead. */
  readonly signingKeysReplaced: number;
  /** Keys whose record is damaged, and which are as they were. Revoke them. */
  readonly keysLeft: readonly DatedKey[];
}

/**
 * For a database that no node starts on any more, because its records say that it is later than it is (`clock_in_doubt`):
 * a node ran on it with a clock that was ahead. Stop every node, put the clocks right, look at what this answers, then
 * call it again with `apply`.
 *
 * Applied, the time is what it is now, and `store.clock_accepted` in the audit trail says so. All signing keys are
 * replaced, so that no token comes to life when the wrong time comes. In keys that were changed in the wrong time, dates
 * that lie ahead are brought back to now, and older secrets end. What was revoked, suspended or retired stays so. A key
 * whose `expiresAt` had passed only by the wrong clock lives until that date. An expiry that was set in the wrong time on
 * a key that is older stays as it was written.
 *
 * @throws PantheonError as `createPantheonAuth`; `clock_in_doubt` only while this machine and the server of the database
 * do not agree.
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

/** Nothing is verified here, and the place of a node that counts is not taken. */
function withoutLimits(options: PantheonAuthOptions): PantheonAuthOptions {
  if (options.database !== undefined) return { ...options, limits: 'local' };
  const { limits: _unused, ...rest } = options;
  return rest;
}
