import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../test/store.ts';
import type { Commit, Precondition, RowChange } from '../events/ledger.ts';
import { insertKey, insertTenant, sampleEvent, sampleKey } from '../testing/scratch-database.ts';
import { COMMIT_ROWS_MAX } from './sql-ledger.ts';

const everyEvent = {
  tenantId: null,
  type: null,
  subjectType: null,
  subjectId: null,
  after: null,
  limit: 1_000,
} as const;

/** What a failed commit must leave as it was. */
async function stateOf(db: Awaited<ReturnType<typeof openScratchDatabase>>['db']) {
  return {
    head: { ...(await db.log.head()), storeNow: null },
    events: await db.events.list({ ...everyEvent, order: 'oldest_first' }),
    tenants: await db.tenants.list(null, 100),
  };
}

test('rows and their events are one transaction, which returns the last seq', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const key = sampleKey();
  const events: Commit['events'] = [sampleEvent({ at: 5 }), sampleEvent({ at: 9 }), sampleEvent({ at: 7 })];
  expect(await db.ledger.commit({ changes: [insertTenant(), ...insertKey(key)], events })).toEqual({ seq: 3 });
  expect(await db.log.head()).toMatchObject({ seq: 3, at: 9 });
  const stored = await db.events.list({ ...everyEvent, order: 'oldest_first' });
  expect(stored.items.map((event) => [event.seq, event.id])).toEqual(
    events.map((event, index) => [index + 1, event.id]),
  );
  expect(await db.keys.find(key.id)).toMatchObject({ key });
});

test('the head never goes back in time, even when the clock does', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent({ at: 2_000 })] });
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent({ at: 1_000 })] });
  expect(await scratch.db.log.head()).toMatchObject({ seq: 2, at: 2_000 });
});

test('an update needs the expected revision and raises it', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  await db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  const rename = (name: string, expectedRevision: number): Commit => ({
    changes: [{ kind: 'update', table: 'tenants', where: { id: 'default' }, set: { name }, expectedRevision }],
    events: [sampleEvent()],
  });
  await db.ledger.commit(rename('second', 1));
  expect(await db.tenants.find('default')).toMatchObject({ name: 'second', revision: 2 });
  await expect(db.ledger.commit(rename('third', 1))).rejects.toMatchObject({ code: 'conflict' });
  expect(await db.tenants.find('default')).toMatchObject({ name: 'second', revision: 2 });
  const lowered = { ...rename('x', 2), changes: [{ ...updateOf('default', 2), set: { name: 'x', revision: 2 } }] };
  await expect(db.ledger.commit(lowered)).rejects.toThrow('raises the revision');
});

test.each([9_223_372_036_854_775_807n, -9_007_199_254_740_993n, Number.MAX_SAFE_INTEGER])(
  'an update from a damaged revision, %s, names it exactly and replaces it',
  async (damaged) => {
    await using scratch = await openScratchDatabase();
    const { db } = scratch;
    await db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
    await scratch.sql(`update tenants set revision = ${damaged} where id = 'default'`);
    const update = { kind: 'update', table: 'tenants', where: { id: 'default' } } as const;
    const rename = (expectedRevision: number | bigint, revision?: number): Commit => ({
      changes: [
        insertTenant({ id: 'other', tenant_id: 'other' }),
        { ...update, set: { name: 'new', ...(revision !== undefined && { revision }) }, expectedRevision },
      ],
      events: [sampleEvent()],
    });
    const near = BigInt(damaged) + (damaged < 0 ? 1n : -1n);
    await expect(db.ledger.commit(rename(near, 5))).rejects.toMatchObject({ code: 'conflict' });
    if (typeof damaged === 'bigint') await expect(db.ledger.commit(rename(damaged))).rejects.toThrow('raises');
    expect(await db.tenants.find('other')).toBeNull();
    await db.ledger.commit(rename(damaged, 5));
    expect(await db.tenants.find('default')).toMatchObject({ name: 'new', revision: 5 });
  },
);

function updateOf(id: string, expectedRevision: number): Extract<RowChange, { kind: 'update'; table: 'tenants' }> {
  return { kind: 'update', table: 'tenants', where: { id }, set: { name: 'new' }, expectedRevision };
}

test('of many changes to one row at the same time exactly one wins', async () => {
  await using scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  const other = await scratch.openAgain();
  const attempts = Array.from({ length: 20 }, (_, n) =>
    (n % 2 === 0 ? scratch.db : other).ledger.commit({ changes: [updateOf('default', 1)], events: [sampleEvent()] }),
  );
  const outcomes = await Promise.allSettled(attempts);
  expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1);
  expect(await scratch.db.log.head()).toMatchObject({ seq: 2 });
});

test('a delete removes what it names, and an update changes nothing else', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const [key, other] = [sampleKey(), sampleKey()];
  const changes = [insertTenant(), ...insertKey(key), ...insertKey(other)];
  await db.ledger.commit({ changes, events: [sampleEvent()] });
  const { id, tenant_id } = key;
  await db.ledger.commit({
    changes: [
      { kind: 'delete', table: 'api_key_versions', where: { key_id: id, tenant_id } },
      { kind: 'update', table: 'api_keys', where: { id, tenant_id }, set: { name: 'N' }, expectedRevision: 1 },
    ],
    events: [sampleEvent()],
  });
  expect(await db.keys.find(id)).toMatchObject({ key: { ...key, name: 'N', revision: 2 }, versions: [] });
  expect(await db.keys.find(other.id)).toMatchObject({ key: other, versions: [{ version: 1 }] });
});

test('a commit that fails anywhere leaves nothing of itself', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const taken = sampleEvent();
  await db.ledger.commit({ changes: [insertTenant()], events: [taken] });
  const before = await stateOf(db);
  const good = insertTenant({ id: 'other', tenant_id: 'other' });
  const bad: readonly Commit[] = [
    { changes: [good, insertTenant()], events: [sampleEvent()] },
    { changes: [good, updateOf('default', 7)], events: [sampleEvent()] },
    { changes: [good, updateOf('nobody', 1)], events: [sampleEvent()] },
    { changes: [good, ...insertKey(sampleKey({ tenant_id: 'nobody' }))], events: [sampleEvent()] },
    { changes: [good], events: [sampleEvent(), taken] },
  ];
  for (const commit of bad) {
    await expect(db.ledger.commit(commit)).rejects.toMatchObject({ code: 'conflict' });
    expect(await stateOf(db)).toEqual(before);
  }
});

test('seq has no gaps whatever succeeds and fails in between', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  await db.ledger.commit({ changes: [insertTenant()], events: [sampleEvent()] });
  let expected = 1;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ events: fc.integer({ min: 1, max: 120 }), fails: fc.boolean() })),
      async (plan) => {
        const placed: [seq: number, events: number][] = [];
        const outcomes = await Promise.allSettled(
          plan.map(({ events, fails }) => {
            const [first, ...rest] = Array.from({ length: events }, () => sampleEvent());
            const changes = fails ? [updateOf('default', 99)] : [];
            return db.ledger.commit({ changes, events: [first ?? sampleEvent(), ...rest] });
          }),
        );
        outcomes.forEach((outcome, index) => {
          const step = plan[index];
          expect(outcome.status).toBe(step?.fails === false ? 'fulfilled' : 'rejected');
          if (outcome.status === 'fulfilled') placed.push([outcome.value.seq, step?.events ?? 0]);
        });
        // Several may be under way at once, so only the log knows their order; each ends where the next begins.
        for (const [seq, events] of placed.toSorted(([one], [other]) => one - other)) {
          expected += events;
          expect(seq).toBe(expected);
        }
      },
    ),
    { numRuns: 15 },
  );
  const seqs: number[] = [];
  for (let after = 0; after < expected; after += 500) {
    seqs.push(...(await db.log.noticesFrom(after + 1, 500)).map((notice) => notice.seq));
  }
  expect(seqs).toEqual(Array.from({ length: expected }, (_, index) => index + 1));
});

const answered = () => ({
  tenant_id: 'default',
  caller: 'process',
  idempotency_key: 'k',
  request_hash: 'h',
  key_id: 'id',
  version: 1,
});

test('an idempotency record is stored only with its change, and a repeated request is a conflict', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const commit = (created_at: number): Commit => ({
    changes: [],
    events: [sampleEvent()],
    idempotencyRecords: [{ table: 'idempotency', row: { ...answered(), created_at } }],
  });
  const twins = await Promise.allSettled([db.ledger.commit(commit(1)), db.ledger.commit(commit(1))]);
  expect(twins.map((twin) => twin.status).toSorted()).toEqual(['fulfilled', 'rejected']);
  await expect(db.ledger.commit(commit(86_400_001))).rejects.toMatchObject({ code: 'conflict' });
  // A day later the first answer no longer counts.
  await db.ledger.commit(commit(86_400_002));
  const key = { tenantId: 'default', caller: 'process', idempotencyKey: 'k' };
  expect(await db.idempotency.find(key, 0)).toMatchObject({ createdAt: 86_400_002 });
  expect(await db.log.head()).toMatchObject({ seq: 2 });
});

test('an unknown column name never becomes SQL', async () => {
  await using scratch = await openScratchDatabase();
  const evil = `name" = 'x' --`;
  const changes: readonly unknown[] = [
    { kind: 'insert', table: 'tenants', row: { [evil]: 1 } },
    { ...updateOf('default', 1), set: { [evil]: 1 } },
    { ...updateOf('default', 1), where: { [evil]: 1 } },
    { ...updateOf('default', 1), where: { id: 'default', [evil]: 1 } },
    { kind: 'delete', table: 'tenants', where: { constructor: 1 } },
    { kind: 'delete', table: 'tenants', where: { __proto__: null, toString: 1 } },
    { kind: 'delete', table: 'tenants', where: {} },
    // Columns that are there, but do not say which row is meant.
    { kind: 'delete', table: 'tenants', where: { name: 'x' } },
    { kind: 'delete', table: 'api_keys', where: { tenant_id: 'default' } },
  ];
  scratch.statements.length = 0;
  for (const change of changes as RowChange[]) {
    await expect(scratch.db.ledger.commit({ changes: [change], events: [sampleEvent()] })).rejects.toThrow('a change');
  }
  const required = { kind: 'absent', table: 'token_revocations', where: { [evil]: 1 } } as unknown as Precondition;
  const commit = scratch.db.ledger.commit({ changes: [], preconditions: [required], events: [sampleEvent()] });
  await expect(commit).rejects.toThrow('a precondition says which row it means');
  expect(scratch.statements).toEqual([]);
});

test('a commit is of bounded size', async () => {
  await using scratch = await openScratchDatabase();
  const changes = Array.from({ length: COMMIT_ROWS_MAX }, () => updateOf('x', 1));
  await expect(scratch.db.ledger.commit({ changes, events: [sampleEvent()] })).rejects.toThrow('bounded size');
});

const KEY_ID = 'k'.repeat(16);
const revocation = (jti: string): RowChange => ({
  kind: 'insert',
  table: 'token_revocations',
  row: { jti, tenant_id: 'default', key_id: KEY_ID, expires_at: 1, revision: 1 },
});
const withoutRevocation = (jti: string): Precondition => ({
  kind: 'absent',
  table: 'token_revocations',
  where: { jti },
});

test('a commit is made only if every row that it requires is as it was read, and rows that must not exist do not', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const signingKey = {
    kid: 'a',
    tenant_id: 'system',
    algorithm: 'ES256',
    public_jwk: '{}',
    created_at: 1,
    signs_from: 1,
  };
  await db.ledger.commit({
    changes: [
      insertTenant(),
      ...insertKey(sampleKey({ id: KEY_ID })),
      {
        kind: 'insert',
        table: 'signing_keys',
        row: { ...signingKey, retired_at: null, revision: 1, sealed: new Uint8Array([1]) },
      },
      revocation('revoked'),
    ],
    events: [sampleEvent()],
  });
  const attempt = async (...preconditions: Precondition[]): Promise<string> =>
    db.ledger.commit({ changes: [updateOf('default', 1)], preconditions, events: [sampleEvent()] }).then(
      () => 'done',
      (error) => error.code,
    );
  const keyRow = (id: string, revision: number, tenant_id = 'default'): Precondition => ({
    kind: 'row',
    table: 'api_keys',
    where: { id, tenant_id },
    revision,
  });
  const tenantRow = (id: string, revision: number): Precondition => ({
    kind: 'row',
    table: 'tenants',
    where: { id },
    revision,
  });
  const signingKeyRow = (kid: string, revision: number): Precondition => ({
    kind: 'row',
    table: 'signing_keys',
    where: { kid },
    revision,
  });
  const good = [keyRow(KEY_ID, 1), signingKeyRow('a', 1), withoutRevocation('other')];
  for (const bad of [
    keyRow(KEY_ID, 2),
    keyRow('x'.repeat(16), 1),
    keyRow(KEY_ID, 1, 'acme'),
    tenantRow('default', 2),
    tenantRow('acme', 1),
    signingKeyRow('a', 0),
    signingKeyRow('b', 1),
    withoutRevocation('revoked'),
  ])
    expect(await attempt(...good, bad), JSON.stringify(bad)).toBe('conflict');
  expect(await db.log.head()).toMatchObject({ seq: 1 });
  // What the commit writes itself is required as it was before it.
  expect(await attempt(...good, tenantRow('default', 1))).toBe('done');
});

test('a token can revoke itself: the row that the commit itself writes does not violate its preconditions', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  await db.ledger.commit({
    changes: [insertTenant(), ...insertKey(sampleKey({ id: KEY_ID }))],
    events: [sampleEvent()],
  });
  const revokeSelf = (): Promise<unknown> =>
    db.ledger.commit({
      changes: [revocation('self')],
      preconditions: [withoutRevocation('self')],
      events: [sampleEvent()],
    });
  expect(await revokeSelf()).toEqual({ seq: 2 });
  await expect(revokeSelf()).rejects.toMatchObject({ code: 'conflict' });
});

test('a revocation is committed before 1,200 earlier writes of holders who rotate their own keys', async () => {
  await using scratch = await openScratchDatabase();
  const { ledger, log } = scratch.db;
  const settled = Promise.allSettled(
    Array.from({ length: 1_200 }, (_, n) => {
      const id = `holder-${n}`;
      return ledger.commit({
        changes: [],
        events: [sampleEvent({ type: 'key.rotated', subjectId: id, actorKeyId: id })],
      });
    }),
  );
  const { seq } = await ledger.commit({ changes: [], events: [sampleEvent({ type: 'key.revoked' })] });
  // Those that were under way when it came, and on PostgreSQL those that its connections took meanwhile.
  expect(seq).toBeLessThanOrEqual(40);
  const outcomes = await settled;
  const refused = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []));
  // What waited longer than anybody waits is told so, on a slow machine.
  expect(refused.filter((code) => code !== 'overloaded' && code !== 'store_unavailable')).toEqual([]);
  expect((await log.head()).seq).toBe(1_201 - refused.length);
});

test('one caller with 1,000 waiting writes delays neither the only write of another caller nor that of another tenant', async () => {
  await using scratch = await openScratchDatabase();
  const { ledger } = scratch.db;
  const commit = (actorKeyId: string, tenantId = 'default') =>
    ledger.commit({ changes: [], events: [sampleEvent({ actorKeyId, tenantId })] });
  const settled = Promise.allSettled(Array.from({ length: 1_000 }, () => commit('eager')));
  const others = await Promise.all([commit('patient'), commit('eager', 'another-tenant')]);
  for (const { seq } of others) expect(seq).toBeLessThanOrEqual(40);
  await settled;
});
