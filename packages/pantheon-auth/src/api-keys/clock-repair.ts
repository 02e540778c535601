/**
 * What is done when an operator says that the time a store has recorded is wrong: what was dated in the wrong time is
 * ended or brought back, and the last step, one event, sets the store's time. Interrupted, it is simply done again.
 */

import type { ChangeOptions } from '../commands/caller.ts';
import { type AuditContext, type EventOf, newEvent } from '../domain/event.ts';
import { correctDates } from '../domain/key.ts';
import type { Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger } from '../events/ledger.ts';
import { type ClockReading, type DatedKey, dateOf, type StoredTime } from '../events/stored-time.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyChanges } from './key-changes.ts';

/** The pairs that sign for the service. */
interface ReplaceableSigningKeys {
  active(): readonly { readonly kid: string }[];
  /** The last one of its algorithm gets a successor. */
  retire(kid: string, options: ChangeOptions): Promise<void>;
}

export interface ClockRepairDeps {
  readonly time: StoredTime;
  readonly changes: KeyChanges;
  readonly signingKeys: ReplaceableSigningKeys;
  readonly ledger: Ledger;
  readonly events: EventCodec;
  readonly clock: Clock;
}

/** What was put right. */
export interface RepairedDates {
  /** Keys that were changed in the wrong time: their dates were brought back, and older secrets of them ended. */
  readonly keysCorrected: number;
  /** Signing keys that were replaced, and with them every token that they had signed ended. */
  readonly signingKeysReplaced: number;
  /** Keys whose row does not open: they are as they were. */
  readonly keysLeft: readonly DatedKey[];
}

/** @throws PantheonError what the store says. Then it is done again. */
export async function repairClock(
  { now, latest }: ClockReading,
  by: AuditContext,
  deps: ClockRepairDeps,
): Promise<RepairedDates> {
  // 1. Tokens that were signed in the wrong time would come to life when that time comes.
  const caller: Caller = { authority: { kind: 'process' }, auditContext: by };
  const signingKeys = deps.signingKeys.active();
  for (const { kid } of signingKeys) await deps.signingKeys.retire(kid, { by: caller });

  // 2. Keys that were changed in it.
  const keysLeft: DatedKey[] = [];
  let keysCorrected = 0;
  const seen = new Set<string>();
  for await (const dated of deps.time.keysChangedAfter(now)) {
    for (const key of dated) {
      if (seen.has(key.keyId)) continue;
      seen.add(key.keyId);
      const corrected = await correct(key, caller, deps);
      if (corrected === null) keysLeft.push(key);
      else keysCorrected += Number(corrected);
    }
  }

  // 3. What is shown of their last use.
  await deps.time.bringBackUses(deps.clock.now());

  // 4. The store's own time, last: before it, the next start is refused as this one was.
  const at = deps.clock.now();
  await deps.ledger.commit({
    changes: [],
    events: await deps.events.toRows([accepted(at, latest, by)]),
    acceptedTime: at,
  });
  return { keysCorrected, signingKeysReplaced: signingKeys.length, keysLeft };
}

/** Null: its row does not open. */
async function correct(
  { tenantId, keyId }: DatedKey,
  by: Caller,
  { changes, clock }: ClockRepairDeps,
): Promise<boolean | null> {
  let isChanged = false;
  try {
    await changes.change({
      by,
      action: null,
      tenantId,
      keyId,
      decide: ({ record, secrets }) => {
        const change = correctDates(record, by.auditContext, clock.now());
        isChanged = change !== null;
        return change && { change, secrets };
      },
    });
    return isChanged;
  } catch (error) {
    if (error instanceof PantheonError && ['key_quarantined', 'not_found'].includes(error.code)) return null;
    throw error;
  }
}

function accepted(at: Instant, latest: Instant, by: AuditContext): EventOf<'store.clock_accepted'> {
  const before = { latestTime: dateOf(latest) };
  const after = { latestTime: dateOf(at) };
  return newEvent('store.clock_accepted', { at, tenantId: SYSTEM_TENANT, subjectId: 'store', before, after }, by);
}
