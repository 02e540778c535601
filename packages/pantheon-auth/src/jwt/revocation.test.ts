import { expect, test } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import { runAsProcess } from '../commands/run-command.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Commit, Ledger } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { TokenRevocationRow } from '../schema/token-revocation-row.ts';
import { TestClock } from '../testing/test-clock.ts';
import {
  assertRevocable,
  REVOKED_TOKENS_MAX,
  REVOKED_TOKENS_PER_TENANT_MAX,
  type RevokedToken,
  TokenRevocations,
} from './revocation.ts';
import type { TokenRevocationRows } from './signing-key-rows.ts';

const BY = { actor: { keyId: null, userId: null, address: null, userAgent: null }, requestId: null, reason: null };

/** As `jwt-handler.ts` does it, by the process. */
async function revoke(revocations: TokenRevocations, token: RevokedToken): Promise<void> {
  assertRevocable(token);
  await runAsProcess(BY, {
    load: () => revocations.find(token),
    decide: (isRevoked) => (isRevoked ? null : revocations.decide(token, BY)),
    commit: (revocation) => revocations.commit(revocation),
  });
}

function setUp() {
  const clock = new TestClock();
  const stored: TokenRevocationRow[] = [];
  const gates: (() => void)[] = [];
  const state = { isHeld: false, fails: null as PantheonError | null, reads: 0, commits: [] as number[] };
  const rows: TokenRevocationRows = {
    unexpired: async (now, after, limit) => {
      state.reads += 1;
      if (state.isHeld) await new Promise<void>((open) => void gates.push(open));
      return stored
        .filter((row) => row.expires_at > now)
        .toSorted((one, other) => (place(one) < place(other) ? -1 : 1))
        .filter((row) => after === null || place(row) > `${after.expiresAt} ${after.jti}`)
        .slice(0, limit);
    },
    find: async (jti) => stored.find((row) => row.jti === jti) ?? null,
  };
  const ledger = {
    commit: async ({ changes }: Commit) => {
      if (state.fails !== null) throw state.fails;
      for (const change of changes) {
        if (change.table !== 'token_revocations') continue;
        if (change.kind === 'insert') stored.push(change.row);
        if (change.kind === 'delete') {
          const at = stored.findIndex((row) => row.jti === change.where.jti);
          if (at >= 0) stored.splice(at, 1);
        }
      }
      state.commits.push(changes.length);
      return { seq: stored.length };
    },
  } as Ledger;
  const events = { toRows: async (list: unknown) => list } as unknown as EventCodec;
  const open = () => new TokenRevocations({ rows, ledger, events, clock });
  const token = (tokenId: string, more: Partial<RevokedToken> = {}): RevokedToken => ({
    tokenId,
    tenantId: 'default',
    keyId: 'key-1',
    expiresAt: clock.now() + 300_000,
    ...more,
  });
  return { clock, stored, state, open, token, release: () => gates.splice(0).forEach((gate) => void gate()) };
}

const place = (row: TokenRevocationRow): string => `${row.expires_at} ${row.jti}`;

test('a revoked token is known on this node at once, and on others by its event or at their next start', async () => {
  const { open, token, stored } = setUp();
  const [here, there] = [open(), open()];
  expect(here.isRevoked('key-1', 'a')).toBe(false);
  await revoke(here, token('a'));
  const subjectId = String(stored[0]?.jti);
  expect(here.isRevoked('key-1', 'a')).toBe(true);
  expect(there.isRevoked('key-1', 'a')).toBe(false);
  const notice = {
    seq: 1,
    id: 'event',
    type: 'token.revoked',
    tenantId: 'default',
    subjectType: 'token',
    subjectId,
  } as const;
  await there.apply({ ...notice, type: 'key.revoked' });
  await there.apply({ ...notice, subjectId: 'key-1.unknown' });
  expect(there.isRevoked('key-1', 'a')).toBe(false);
  await there.apply(notice);
  await there.apply(notice);
  expect(there.isRevoked('key-1', 'a')).toBe(true);
  const later = open();
  await later.start();
  expect(later.isRevoked('key-1', 'a')).toBe(true);
  await revoke(here, token('a'));
  expect(stored).toHaveLength(1);
});

test('a holder can revoke only its own tokens: the same id under another key is another token', async () => {
  const { open, token } = setUp();
  const revocations = open();
  await revoke(revocations, token('a'));
  expect(revocations.isRevoked('key-2', 'a')).toBe(false);
});

test('while revocations are loaded again, the known ones still apply', async () => {
  const { open, token, state, release } = setUp();
  const revocations = open();
  await revoke(revocations, token('a'));
  state.isHeld = true;
  const reset = revocations.reset();
  expect(revocations.isRevoked('key-1', 'a')).toBe(true);
  await revoke(revocations, token('b'));
  state.isHeld = false;
  release();
  await reset;
  expect([revocations.isRevoked('key-1', 'a'), revocations.isRevoked('key-1', 'b')]).toEqual([true, true]);
});

test('a start reads all pages', async () => {
  const { open, token, stored, state } = setUp();
  const first = open();
  for (let n = 0; n < 8_001; n += 1) await revoke(first, token(`t${String(n).padStart(4, '0')}`));
  const later = open();
  state.reads = 0;
  await later.start();
  expect(state.reads).toBe(3);
  expect(stored.every((_, n) => later.isRevoked('key-1', `t${String(n).padStart(4, '0')}`))).toBe(true);
});

test('a revocation is kept as long as any token may be valid, whatever lifetime was given, and is then removed from memory', async () => {
  const { open, token, stored, clock } = setUp();
  const revocations = open();
  const longest = clock.now() + 3_600_000 + 120_000;
  await revoke(revocations, token('said to have expired', { expiresAt: clock.now() - 120_000 }));
  await revoke(revocations, token('for ever', { expiresAt: Number.MAX_SAFE_INTEGER }));
  expect(stored).toMatchObject([{ expires_at: longest }, { expires_at: longest }]);
  clock.advance(2 * 3_600_000);
  await revoke(revocations, token('next'));
  expect(revocations.isRevoked('key-1', 'for ever')).toBe(false);
  expect(revocations.isRevoked('key-1', 'next')).toBe(true);
});

test('the id that a holder gave to its token is in no row and no event', async () => {
  const { open, token, stored } = setUp();
  await revoke(open(), token('WrittenByTheHolder'));
  expect(JSON.stringify(stored)).not.toContain('WrittenByTheHolder');
});

test('an id or time that no token can have is refused with its field', async () => {
  const { open, token } = setUp();
  for (const [wrong, field] of [
    [token(''), 'tokenId'],
    [token('x'.repeat(129)), 'tokenId'],
    [token('a', { expiresAt: Number.NaN }), 'expiresAt'],
    [token('a', { expiresAt: Number.POSITIVE_INFINITY }), 'expiresAt'],
  ] as const)
    expect(await refusalOf(revoke(open(), wrong))).toMatchObject({ code: 'invalid_request', field });
});

test('a conflict with another node is no failure; any other error is one, and nothing is cached', async () => {
  const { open, token, state } = setUp();
  const revocations = open();
  state.fails = new PantheonError('store_unavailable');
  await expect(revoke(revocations, token('a'))).rejects.toBe(state.fails);
  expect(revocations.isRevoked('key-1', 'a')).toBe(false);
  state.fails = new PantheonError('conflict');
  // A deadlock, for one: the token was revoked by nobody.
  await expect(revoke(revocations, token('a'))).rejects.toBe(state.fails);
  expect(revocations.isRevoked('key-1', 'a')).toBe(false);
  state.fails = null;
  await revoke(open(), token('a'));
  state.fails = new PantheonError('conflict');
  await revoke(revocations, token('a'));
  expect(revocations.isRevoked('key-1', 'a')).toBe(true);
});

test('when an operator sets back a clock that was ahead, every revocation that it took for expired applies again', async () => {
  const { open, token, clock } = setUp();
  const revocations = open();
  await revoke(revocations, token('a'));
  const before = clock.now();
  clock.setWall(before + 2 * 3_600_000);
  await revoke(revocations, token('b'));
  expect(revocations.isRevoked('key-1', 'a')).toBe(false);
  clock.setWall(before);
  const accepted = { seq: 3, id: 'event', tenantId: 'system', subjectType: 'store', subjectId: 'store' } as const;
  await revocations.apply({ ...accepted, type: 'store.clock_accepted' });
  expect(revocations.isRevoked('key-1', 'a')).toBe(true);
});

test('a tenant that revokes as many tokens as it can leaves room to others, and is told that it has too many', async () => {
  const { open, token, stored, clock } = setUp();
  const expires_at = clock.now() + 300_000;
  const fill = (tenantId: string, many: number): void => {
    const row = { tenant_id: tenantId, key_id: 'key-1', expires_at, revision: 1 };
    for (let n = 0; n < many; n += 1) stored.push({ ...row, jti: `${tenantId}.${n}` });
  };
  fill('greedy', REVOKED_TOKENS_PER_TENANT_MAX);
  const rows: TokenRevocationRows = {
    unexpired: async (_now, after) => (after === null ? stored : []).concat(),
    find: async () => null,
  };
  const ledger = { commit: async () => ({ seq: 1 }) } as Ledger;
  const events = { toRows: async (list: unknown) => list } as unknown as EventCodec;
  const revocations = new TokenRevocations({ rows, ledger, events, clock });
  await revocations.start();
  const overloaded = await refusalOf(revoke(revocations, token('a', { tenantId: 'greedy' })));
  expect(overloaded).toMatchObject({ code: 'overloaded', detail: expect.stringContaining('The tenant has') });
  await revoke(revocations, token('a', { tenantId: 'other' }));
  expect(revocations.isRevoked('key-1', 'a')).toBe(true);

  fill('second', REVOKED_TOKENS_MAX - REVOKED_TOKENS_PER_TENANT_MAX);
  await revocations.reset();
  expect((await refusalOf(revoke(revocations, token('b', { tenantId: 'other' })))).code).toBe('overloaded');
  clock.advance(300_000);
  await revoke(revocations, token('b', { tenantId: 'greedy' }));
  expect(revocations.isRevoked('key-1', 'b')).toBe(true);
  expect(open().isRevoked('key-1', 'b')).toBe(false);
});
