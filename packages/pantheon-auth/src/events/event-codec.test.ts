import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AuditEvent, type EventOf, PROCESS_ACTOR } from '../domain/event.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import { anyEvent } from '../testing/arbitraries.ts';
import { EVENTS_PAGE_MAX, EventCodec } from './event-codec.ts';
import type { EventQuery, EventRows, StoredEvent } from './event-rows.ts';
import type { EventRow } from './ledger.ts';
import { leafHash } from './merkle.ts';

/** Seals by remembering where, and opens only there. */
class FakeSealer implements Sealer {
  isAway = false;

  async seal(context: EncryptionContext, plaintext: Uint8Array): Promise<Uint8Array> {
    return Buffer.concat([
      Buffer.from(`${JSON.stringify(context)}\n`),
      Buffer.from(plaintext).map((byte) => byte ^ 0xff),
    ]);
  }

  async open(context: EncryptionContext, sealed: Uint8Array): Promise<Buffer> {
    if (this.isAway) throw new PantheonError('store_unavailable');
    const end = sealed.indexOf(10);
    if (Buffer.from(sealed.subarray(0, end)).toString() !== JSON.stringify(context))
      throw new PantheonError('key_quarantined');
    return Buffer.from(sealed.subarray(end + 1)).map((byte) => byte ^ 0xff) as Buffer;
  }
}

function setUp() {
  const stored: StoredEvent[] = [];
  const asked: EventQuery[] = [];
  const rows: EventRows = {
    lastSeq: async () => stored[0]?.seq ?? null,
    list: async (query) => {
      asked.push(query);
      return { items: stored, next: null };
    },
    actsOnKeys: async () => [],
  };
  const sealer = new FakeSealer();
  const log = new EventCodec(rows, sealer);
  const keep = (row: EventRow, over: Partial<StoredEvent> = {}): void =>
    void stored.push({ seq: stored.length + 1, ...row, ...over });
  return { log, sealer, stored, asked, keep };
}

const ALL: EventQuery = {
  tenantId: null,
  type: null,
  subjectType: null,
  subjectId: null,
  after: null,
  order: 'oldest_first',
  limit: 10,
};

test('an event is read as it was written', async () => {
  await fc.assert(
    fc.asyncProperty(anyEvent, async (event) => {
      const { log, keep } = setUp();
      // Also what nothing of ours would write: what a type says is checked when it is compiled.
      const [row] = await log.toRows([event as AuditEvent]);
      keep(row);
      const {
        items: [back],
      } = await log.list(ALL);
      // An object without members and none at all are the same here: nothing was said.
      expect(JSON.parse(JSON.stringify(back))).toEqual(JSON.parse(JSON.stringify({ ...event, seq: 1 })));
    }),
    { numRuns: 200 },
  );
});

const EVENT: EventOf<'key.updated'> = {
  id: 'EventEventEventE',
  at: Date.UTC(2030, 0, 1),
  tenantId: 'default',
  type: 'key.updated',
  actor: { ...PROCESS_ACTOR, userId: 'PersonalUser', address: '192.0.2.77', userAgent: 'PersonalAgent' },
  subject: { type: 'key', id: 'KeyKeyKeyKeyKeyK' },
  requestId: 'request',
  reason: 'PersonalReason',
  before: {},
  after: { name: 'PersonalName', metadata: { a: 'PersonalMetadata' }, permissions: ['docs:read'] },
};

test('the open part contains nothing personal, only a salted hash of the personal part', async () => {
  const { log } = setUp();
  const [[one], [two]] = [await log.toRows([EVENT]), await log.toRows([EVENT])];
  expect(one.body).toContain('docs:read');
  expect(one.body).not.toMatch(/Personal|192\.0\.2\.77/);
  const hashOf = (row: EventRow) => (JSON.parse(row.body) as { personalHash: string }).personalHash;
  expect(hashOf(one)).not.toBe(hashOf(two));
  const opened = await new FakeSealer().open(
    { table: 'event_details', column: 'sealed', tenantId: 'default', rowId: EVENT.id, version: 0 },
    one.personal,
  );
  expect(createHash('sha256').update(opened).digest('hex')).toBe(hashOf(one));
});

test('the leaf is the hash of its own random bytes and the whole open part', async () => {
  const { log } = setUp();
  const rows = await log.toRows([EVENT, { ...EVENT, id: 'OtherOtherOtherO' }]);
  for (const row of rows) {
    expect(row.leafRandom).toHaveLength(32);
    expect(row.leaf).toEqual(leafHash(row.leafRandom, row.body));
  }
  expect(rows[0].leafRandom).not.toEqual(rows[1]?.leafRandom);
});

test('an event whose personal part was erased can still be read', async () => {
  const { log, keep } = setUp();
  const [row] = await log.toRows([EVENT]);
  keep(row, { personal: null });
  expect((await log.list(ALL)).items).toEqual([
    { ...EVENT, seq: 1, actor: PROCESS_ACTOR, reason: null, after: { permissions: ['docs:read'] } },
  ]);
});

test('a personal part of another event cannot be decrypted: the event is shown as damaged, with its open part', async () => {
  const { log, keep, sealer } = setUp();
  const [row, other] = await log.toRows([EVENT, { ...EVENT, id: 'OtherOtherOtherO' }]);
  const context = {
    table: 'event_details',
    column: 'sealed',
    tenantId: 'default',
    rowId: EVENT.id,
    version: 0,
  } as const;
  const exchanged = await sealer.seal(context, Buffer.from('{"salt":"x","reason":"Exchanged"}'));
  if (other !== undefined) keep(row, { personal: other.personal });
  keep(row, { personal: exchanged });
  if (other !== undefined) keep(other);
  const open = { damaged: true, reason: null, actor: PROCESS_ACTOR, after: { permissions: ['docs:read'] } };
  expect((await log.list(ALL)).items).toMatchObject([open, open, { reason: 'PersonalReason' }]);
});

test('an event that does not match its hash is shown as damaged and without its content, and the others are shown', async () => {
  const { log, keep } = setUp();
  const [row, other] = await log.toRows([EVENT, { ...EVENT, id: 'OtherOtherOtherO' }]);
  const forged = row.body.replace('docs:read', 'docs:other');
  const hashed = (body: string) => ({ body, leaf: leafHash(row.leafRandom, body) });
  const damages: Partial<StoredEvent>[] = [
    { body: forged },
    { body: '{' },
    { leaf: new Uint8Array(32) },
    { leafRandom: new Uint8Array(32) },
    // Hashed anew, and still not what the columns beside it say, by which it is found and by which it is kept from others.
    hashed('{'),
    hashed('null'),
    hashed(row.body.replace('"tenantId":"default"', '"tenantId":"another"')),
    { tenantId: 'another' },
    { type: 'key.revoked' },
    { subjectId: 'AnotherAnotherAn' },
    { at: 1 },
  ];
  for (const damage of damages) keep(row, damage);
  if (other !== undefined) keep(other);
  const listed = (await log.list(ALL)).items;
  const stands = { id: EVENT.id, at: EVENT.at, tenantId: 'default', type: EVENT.type, subject: EVENT.subject };
  for (const [n, event] of listed.slice(0, damages.length).entries()) {
    expect(Object.keys(event).toSorted()).toEqual([...Object.keys(stands), 'damaged', 'seq'].toSorted());
    expect(event).toMatchObject({ damaged: true, seq: n + 1, id: EVENT.id });
  }
  expect(listed[0]).toEqual({ ...stands, seq: 1, damaged: true });
  expect(listed.at(-1)).toMatchObject({ id: 'OtherOtherOtherO', reason: 'PersonalReason' });
  expect(listed.at(-1)).not.toHaveProperty('damaged');
});

test('an outage is an error, and not taken for an erased part', async () => {
  const { log, keep, sealer } = setUp();
  const [row] = await log.toRows([EVENT]);
  keep(row);
  sealer.isAway = true;
  await expect(log.list(ALL)).rejects.toMatchObject({ code: 'store_unavailable' });
});

test('a page has a bounded size, whatever is requested', async () => {
  const { log, asked } = setUp();
  await log.list({ ...ALL, limit: 1_000_000 });
  expect(asked[0]?.limit).toBe(EVENTS_PAGE_MAX);
});
