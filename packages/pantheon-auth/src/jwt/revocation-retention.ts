/**
 * Deletes revocations of expired tokens. The tokens are denied because of `exp`, so none becomes valid again. Replaying
 * the log gives the same state, because each event contains the expiry.
 */
import { LEEWAY_SECONDS_MAX } from '../domain/claims.ts';
import { jobActor, newEvent } from '../domain/event.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { LeaseHeld, Ledger } from '../events/ledger.ts';
import { type Clock, isTimeCertain, SECOND_MS } from '../foundation/clock.ts';
import type { TokenRevocationRows } from './signing-key-rows.ts';

/** Rows per commit. SQLite blocks the event loop for about 5 ms with these. */
export const REVOCATIONS_AT_ONCE_MAX = 200;
/** Commits per run. */
const COMMITS_MAX = 500;
/** Longer than the clocks of two nodes may differ, so that a token is expired on every node. */
const DELETED_AFTER_MS: number = LEEWAY_SECONDS_MAX * SECOND_MS;

export interface RevocationRetentionDeps {
  readonly rows: Pick<TokenRevocationRows, 'unexpired'>;
  readonly ledger: Ledger;
  readonly events: EventCodec;
  readonly clock: Clock;
}

/** The run of the job. */
interface Run {
  isEnding(): boolean;
  readonly lease: LeaseHeld;
}

/**
 * Deletes revocations of any tenant, oldest first, up to a bounded number. Deletes nothing while the clock is in doubt
 * or may be ahead: the tokens may not have expired by the right time.
 */
export async function deleteExpiredRevocations(deps: RevocationRetentionDeps, run: Run): Promise<void> {
  const { rows, ledger, events, clock } = deps;
  for (let commits = 0; commits < COMMITS_MAX && isTimeCertain(clock) && !run.isEnding(); commits += 1) {
    const now = clock.now();
    const oldest = await rows.unexpired(0, null, REVOCATIONS_AT_ONCE_MAX);
    // Without one whose expiry is damaged: its token may not have expired.
    const expired = oldest.flatMap(({ jti, expires_at: at }) =>
      typeof at === 'number' && at <= now - DELETED_AFTER_MS ? [{ jti, expiresAt: at }] : [],
    );
    const last = expired.at(-1);
    if (last === undefined) return;
    const after = { count: expired.length, lastExpiresAt: new Date(last.expiresAt).toISOString() };
    const event = newEvent(
      'store.expired_revocations_deleted',
      { at: now, tenantId: SYSTEM_TENANT, subjectId: 'store', before: null, after },
      { actor: jobActor(run.lease.name), requestId: null, reason: null },
    );
    await ledger.commit({
      changes: expired.map(({ jti }) => ({ kind: 'delete', table: 'token_revocations', where: { jti } })),
      preconditions: [run.lease],
      events: await events.toRows([event]),
    });
    if (expired.length < REVOCATIONS_AT_ONCE_MAX) return;
  }
}
