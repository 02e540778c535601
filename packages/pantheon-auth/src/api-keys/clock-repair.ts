/**
 * Corrects a database whose recorded time an operator has declared wrong: records dated in the wrong time are ended or
 * re-dated, and finally one event sets the recorded time. It can be repeated after an interruption.
 */

import type { ChangeOptions } from '../domain/caller.ts';
import { type AuditContext, type EventOf, newEvent } from '../domain/event.ts';
import { correctDates } from '../domain/key.ts';
import type { Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger } from '../events/ledger.ts';
import { type ClockReading, type DatedKey, dateOf, type StoredTime } from '../events/stored-time.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { StoredKey } from '../verification/stored-key.ts';
import type { KeyChanges, KeyDecision } from './key-changes.ts';

/** The signing keys of the service. */
interface ReplaceableSigningKeys {
  /** Damaged ones included. */
  unretired(): readonly { readonly kid: string }[];
  /** Retiring the last one of its algorithm creates a successor. */
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

/** What was corrected. */
export interface RepairedDates {
  /** Number of keys that were changed in the wrong time. Their dates were corrected and their older versions ended. */
  readonly keysCorrected: number;
  /** Number of signing keys that were replaced. Every token that they had signed is invalid. */
  readonly signingKeysReplaced: number;
  /** Damaged keys, which were not changed. */
  readonly keysLeft: readonly DatedKey[];
}

/** @throws PantheonError errors of the database. Repeat the call then. */
export async function repairClock(
  { now, latest }: ClockReading,
  by: AuditContext,
  deps: ClockRepairDeps,
): Promise<RepairedDates> {
  // 1. Tokens signed in the wrong time would become valid when that time comes, so all signing keys are replaced.
  const caller: Caller = { authority: { kind: 'process' }, auditContext: by };
  const signingKeys = deps.signingKeys.unretired();
  for (const { kid } of signingKeys) await deps.signingKeys.retire(kid, { by: caller });

  // 2. Keys that were changed in the wrong time.
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

  // 3. Their times of last use.
  await deps.time.bringBackUses(deps.clock.now());

  // 4. The recorded time, last: until then every start is refused, so an interruption is noticed.
  const at = deps.clock.now();
  await deps.ledger.commit({
    changes: [],
    events: await deps.events.toRows([accepted(at, latest, by)]),
    acceptedTime: at,
  });
  return { keysCorrected, signingKeysReplaced: signingKeys.length, keysLeft };
}

/** Null: the key is damaged. */
async function correct(
  { tenantId, keyId }: DatedKey,
  by: Caller,
  { changes, clock }: ClockRepairDeps,
): Promise<boolean | null> {
  let isChanged = false;
  try {
    const decide = ({ record, secrets }: StoredKey): KeyDecision | null => {
      const change = correctDates(record, by.auditContext, clock.now());
      isChanged = change !== null;
      return change && { change, secrets };
    };
    await changes.change({ by, action: null, tenantId, keyId, decide }, 'ordinary');
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
