/** Input never becomes SQL: whatever is sent, the texts that run are the same. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase, STORE } from '../../test/store.ts';
import type { KeyListQuery } from '../api-keys/key-rows.ts';
import type { EventType } from '../domain/event.ts';
import { newId } from '../foundation/ids.ts';
import { insertKey, insertTenant, sampleEvent, sampleKey } from '../testing/scratch-database.ts';
import type { UsageOutcome } from '../usage/usage-rows.ts';

/** What PostgreSQL cannot store, and no input lets through (`text.test.ts` of the engine). */
const TEXT_OF_SQLITE: readonly string[] = STORE === 'sqlite' ? ['\0', '\ud800'] : [];
const anyText =
  STORE === 'sqlite'
    ? fc.string({ unit: 'binary' })
    : fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '').toWellFormed());

/** Everything that can be asked, with `text` wherever a caller's text can come. */
async function askEverything(scratch: ScratchDatabase, text: string): Promise<void> {
  const { db } = scratch;
  const id = newId();
  const unique = text + id;
  const row = { tenant_id: text, caller: text, idempotency_key: unique, request_hash: text, key_id: text };
  await db.ledger.commit({
    changes: [
      insertTenant({ id: unique, tenant_id: unique, name: text }),
      ...insertKey(sampleKey({ id, tenant_id: unique, name: text })),
    ],
    events: [sampleEvent({ subjectId: text, tenantId: text, body: text })],
    idempotencyRecords: [{ table: 'idempotency', row: { ...row, version: 1, created_at: 1 } }],
  });
  const where = { id, tenant_id: unique };
  const update = { where, set: { name: text, description: text }, expectedRevision: 1 };
  await db.ledger.commit({
    changes: [
      { kind: 'update', table: 'api_keys', ...update },
      { kind: 'delete', table: 'api_key_versions', where: { key_id: text, tenant_id: text } },
    ],
    events: [sampleEvent()],
  });
  await db.keys.find(text);
  const list: KeyListQuery = {
    tenantId: text,
    userId: text,
    state: 'active',
    environment: text,
    text,
    after: { createdAt: 1, id: text },
    limit: 5,
    now: 1,
  };
  await db.keys.list(list);
  await db.keys.list({ ...list, state: text as 'revoked' });
  await db.events.list({
    tenantId: text,
    type: text as EventType,
    subjectType: text as 'key',
    subjectId: text,
    after: 1,
    order: 'newest_first',
    limit: 5,
  });
  await db.tenants.find(text);
  await db.tenants.list(text, 5);
  await db.tokenRevocations.find(text);
  await db.tokenRevocations.unexpired(1, { expiresAt: 1, jti: text }, 5);
  await db.idempotency.find({ tenantId: text, caller: text, idempotencyKey: text }, 0);
  await db.meta.insertOnce(text, text);
  await db.meta.get(text);
  const lease = { tenantId: text, keyId: unique, period: text, limit: 5 };
  await db.quota.reserve(lease, 1);
  await db.quota.release(lease, 1);
  const use = { tenantId: text, keyId: text, version: 1 };
  await db.usage.store({
    id: unique,
    at: 1,
    counts: [{ ...use, minute: 0, outcome: text as UsageOutcome, count: 1 }],
    uses: Array.from({ length: 11 }, (_, n) => ({
      ...{ ...use, keyId: n < 1 ? text : unique, version: n + 1 },
      ...{ count: 1, lastUsedAt: 1, addresses: [text] },
    })),
  });
  await db.usage.foldVersions(9);
  await db.usage.totalsOf(text, [text, `${text}2`]);
  await db.usage.ofKey(text, text);
  for (const keyId of [text, null]) {
    for (const step of ['minute', 'day'] as const) await db.usage.sums({ tenantId: text, keyId, step, from: 0, to: 1 });
  }
  await db.usage.prune('minute', 0, 1);
  await db.usage.prune('hour', 0, 1);
  await db.keys.childrenOf(text, { createdAt: 1, id: text }, 5);
  await db.events.lastSeq(text, text as EventType);
  await db.dataKeys.active(text);
  const dataKey = { id, tenantId: unique, wrapped: new Uint8Array(1), createdAt: 1, retiredAt: null, seals: 0 };
  await db.dataKeys.add(dataKey, text);
  await db.dataKeys.takeSeals(id, 1);
}

test('the SQL text that runs is the same for every input of a caller', async () => {
  await using scratch = await openScratchDatabase();
  const textsFor = async (text: string): Promise<readonly string[]> => {
    scratch.statements.length = 0;
    await askEverything(scratch, text);
    // A commit that comes while the write-ahead log begins anew asks for its turn more than once.
    return scratch.statements.filter((sql, at, all) => sql !== 'begin immediate' || all[at - 1] !== sql);
  };
  const plain = await textsFor('plain');
  const hostile = [
    "'",
    '"',
    '`',
    '\\',
    ';--',
    '$1',
    '?',
    '%',
    '_',
    '/*',
    'ſ',
    '🚀',
    ...TEXT_OF_SQLITE,
    "' or 1=1 --",
    "'".repeat(65_536),
  ];
  for (const text of hostile) expect(await textsFor(text)).toEqual(plain);
  await fc.assert(
    fc.asyncProperty(anyText, async (text) => {
      expect(await textsFor(text)).toEqual(plain);
    }),
    { numRuns: 25 },
  );
  const marker = 'N0TINTHETEXT';
  expect((await textsFor(marker)).filter((text) => text.includes(marker))).toEqual([]);
}, 60_000);
