import { expect, test } from 'vitest';
import type { EventCodec } from '../events/event-codec.ts';
import type { Commit, Ledger } from '../events/ledger.ts';
import type { Clock } from '../foundation/clock.ts';
import type { AsStored } from '../schema/as-stored.ts';
import type { TokenRevocationRow } from '../schema/token-revocation-row.ts';
import { deleteExpiredRevocations, REVOCATIONS_AT_ONCE_MAX } from './revocation-retention.ts';

const NOW = Date.UTC(2030, 0, 1);
const CLOCK: Clock = { now: () => NOW, monotonicMs: () => 0 };
/** As much as two clocks may be apart. */
const LEEWAY_MS = 120_000;
const LEASE = { kind: 'lease', name: 'token-revocation-retention', nodeId: 'a', fence: 3 } as const;

function setUp(stored: AsStored<TokenRevocationRow>[]) {
  const commits: Commit[] = [];
  const rows = { unexpired: async (_now: number, _after: unknown, limit: number) => stored.slice(0, limit) };
  const ledger = {
    commit: async (commit: Commit) => {
      commits.push(commit);
      for (const change of commit.changes)
        if (change.kind === 'delete' && change.table === 'token_revocations')
          stored.splice(
            stored.findIndex((row) => row.jti === change.where.jti),
            1,
          );
      return { seq: commits.length };
    },
  } as Ledger;
  const events = { toRows: async (list: unknown) => list } as unknown as EventCodec;
  const run = (clock: Clock = CLOCK, isEnding = () => false) =>
    deleteExpiredRevocations({ rows, ledger, events, clock }, { isEnding, lease: LEASE });
  return { stored, commits, run };
}

const row = (n: number, expiresAt: number): TokenRevocationRow => ({
  jti: `key.${n}`,
  tenant_id: 'default',
  key_id: 'key',
  expires_at: expiresAt,
  revision: 1,
});

test('revocations of tokens that have expired by the clock of every node are deleted, a bounded number with each event, and nothing else is', async () => {
  const many = REVOCATIONS_AT_ONCE_MAX + 5;
  const expired = Array.from({ length: many }, (_, n) => row(n, NOW - LEEWAY_MS));
  const young = row(many, NOW - LEEWAY_MS + 1);
  const damaged = { ...row(many + 1, 0), expires_at: -(2n ** 63n) };
  const { stored, commits, run } = setUp([...expired, young, damaged]);
  await run();
  expect(stored).toEqual([young, damaged]);
  expect(commits.map(({ changes }) => changes.length)).toEqual([REVOCATIONS_AT_ONCE_MAX, 5]);
  expect(commits[0]).toMatchObject({
    preconditions: [LEASE],
    events: [
      {
        type: 'store.expired_revocations_deleted',
        tenantId: 'system',
        actor: { keyId: null, userId: null, job: 'token-revocation-retention' },
        after: { count: REVOCATIONS_AT_ONCE_MAX, lastExpiresAt: new Date(NOW - LEEWAY_MS).toISOString() },
      },
    ],
  });
});

test('if no token has expired there is no commit, and so no event', async () => {
  const { commits, run } = setUp([row(1, NOW)]);
  await run();
  expect(commits).toEqual([]);
});

test.each<[string, Partial<Clock>]>([
  ['is in doubt', { doubted: NOW }],
  ['may be ahead', { mayBeAheadForMs: 1 }],
])('nothing is deleted by a clock that %s', async (_what, more) => {
  const { commits, run } = setUp([row(1, 0)]);
  await run({ ...CLOCK, ...more });
  expect(commits).toEqual([]);
  await run();
  expect(commits).toHaveLength(1);
});

test('an aborted run begins no further commit', async () => {
  const { commits, run } = setUp(Array.from({ length: 3 * REVOCATIONS_AT_ONCE_MAX }, (_, n) => row(n, 0)));
  await run(CLOCK, () => commits.length === 2);
  expect(commits).toHaveLength(2);
});
