/**
 * Deletes revocations of tokens that have expired: their tokens are dead by `exp`, so taking the rows away revives none,
 * and a replay of the log, in which each has its end, comes to the same.
 */
import { LEEWAY_SECONDS_MAX } from '../domain/claims.ts';
import { jobActor, newEvent } from '../domain/event.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { LeaseHeld, Ledger } from '../events/ledger.ts';
import { type Clock, mayDeleteByAge, SECOND_MS } from '../foundation/clock.ts';
import type { TokenRevocationRows } from './signing-key-rows.ts';

/** Rows of one commit, which keeps SQLite's event loop: of these it takes some 5 ms. */
export const REVOCATIONS_AT_ONCE_MAX = 200;
/** Commits of one run. */
const COMMITS_MAX = 500;
/** Longer than the clocks of two nodes are apart: what one of them takes for expired is so for all. */
const DELETED_AFTER_MS: number = LEEWAY_SECONDS_MAX * SECOND_MS;

export interface RevocationRetentionDeps {
  readonly rows: Pick<TokenRevocationRows, 'unexpired'>;
  readonly ledger: Ledger;
  readonly events: EventCodec;
  readonly clock: Clock;
}

/** A run of the job that does this. */
interface Run {
  isEnding(): boolean;
  readonly lease: LeaseHeld;
}

/**
 * Of any tenant, the oldest first, up to a bounded number. While the clock is in doubt, or may be ahead, it deletes
 * nothing: by such a clock they would look dead, and live again when it is put right.
 */
export async function deleteExpiredRevocations(deps: RevocationRetentionDeps, run: Run): Promise<void> {
  const { rows, ledger, events, clock } = deps;
  for (let commits = 0; commits < COMMITS_MAX && mayDeleteByAge(clock) && !run.isEnding(); commits += 1) {
    const now = clock.now();
    const oldest = await rows.unexpired(0, null, REVOCATIONS_AT_ONCE_MAX);
    const expired = oldest.filter((row) => row.expires_at <= now - DELETED_AFTER_MS);
    const last = expired.at(-1);
    if (last === undefined) return;
    const after = { count: expired.length, lastExpiresAt: new Date(last.expires_at).toISOString() };
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
