/** What is written comes back as it was, and is ordered and found alike, on every database. */
import { expect, test } from 'vitest';
import { openScratchDatabase, type ScratchDatabase } from '../../test/store.ts';
import type { KeyListQuery } from '../api-keys/key-rows.ts';
import { newId } from '../foundation/ids.ts';
import type { ApiKeyRow } from '../schema/api-key-row.ts';
import { insertKey, insertTenant, sampleEvent, sampleKey } from '../testing/scratch-database.ts';

const TEXTS = [
  "'",
  '"',
  '\\',
  '\\x00',
  '%_',
  '$1',
  '?',
  '{"a":[1]}',
  ' ',
  '',
  'tab\tline\nreturn\r\u0001\u007f',
  'Jürgen',
  'ẞßſİıÄÉ',
  'e\u0301',
  '日本語',
  '🚀👩‍👩‍👧',
  '\u{10ffff}\ufeff\u202e',
  'x'.repeat(100_000),
] as const;

const everything: KeyListQuery = {
  tenantId: 'default',
  userId: null,
  state: null,
  environment: null,
  text: null,
  after: null,
  limit: 1_000,
  now: 10_000,
};

async function withKeys(keys: readonly ApiKeyRow[]): Promise<ScratchDatabase> {
  const scratch = await openScratchDatabase();
  await scratch.db.ledger.commit({ changes: [insertTenant(), ...keys.flatMap(insertKey)], events: [sampleEvent()] });
  return scratch;
}

test('every text, in every column of a key', async () => {
  const keys = TEXTS.map((text) =>
    sampleKey({
      user_id: text,
      name: text,
      description: text,
      environment: text,
      permissions: text,
      grantable: text,
      state: text,
      state_reason: text,
      created_by: text,
      rate_limits: text,
      quota: text,
      ip_allowlist: text,
      rotation: text,
      jwt_algorithm: text,
    }),
  );
  await using scratch = await withKeys(keys);
  for (const key of keys) {
    expect((await scratch.db.keys.find(key.id))?.key).toEqual(key);
    const mine = await scratch.db.keys.list({ ...everything, userId: key.user_id });
    expect(mine.items.map((set) => set.key.id)).toEqual([key.id]);
  }
});

test('every text, in an event', async () => {
  await using scratch = await openScratchDatabase();
  for (const [at, text] of TEXTS.entries()) {
    const event = sampleEvent({ subjectId: text, tenantId: `t${at}`, body: text });
    await scratch.db.ledger.commit({ changes: [], events: [event] });
    const query = { type: null, subjectType: null, after: null, order: 'oldest_first', limit: 10 } as const;
    const found = await scratch.db.events.list({ ...query, tenantId: `t${at}`, subjectId: text });
    expect(found.items.map(({ body }) => body)).toEqual([text]);
    expect((await scratch.db.log.noticesFrom(at + 1, 1))[0]).toMatchObject({ subjectId: text });
  }
});

test('every byte, none, and many', async () => {
  const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const all = [every, every.toReversed(), new Uint8Array(), new Uint8Array(1), new Uint8Array(1_000_000).fill(255)];
  const keys = all.map((sealed) => sampleKey({ sealed }));
  await using scratch = await withKeys(keys);
  for (const key of keys) {
    const sealed = (await scratch.db.keys.find(key.id))?.key.sealed;
    expect(sealed).toBeInstanceOf(Uint8Array);
    expect(Buffer.compare(sealed ?? new Uint8Array(), key.sealed)).toBe(0);
  }
  const [leaf, leafRandom, personal] = [every, every.toReversed(), new Uint8Array()];
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent({ leaf, leafRandom, personal, tenantId: 'x' })] });
  const query = { type: null, subjectType: null, subjectId: null, after: null, order: 'oldest_first' } as const;
  const {
    items: [event],
  } = await scratch.db.events.list({ ...query, tenantId: 'x', limit: 1 });
  expect([event?.leaf, event?.leafRandom, event?.personal].map((bytes) => [...(bytes ?? [])])).toEqual(
    [leaf, leafRandom, personal].map((bytes) => [...bytes]),
  );
});

test('whole numbers up to the largest exact one, as numbers', async () => {
  const numbers = [0, 1, -1, 2 ** 31, -(2 ** 31) - 1, 2 ** 32, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  const keys = numbers.map((number) => sampleKey({ created_at: number, expires_at: number, version: number }));
  await using scratch = await withKeys(keys);
  for (const key of keys) expect((await scratch.db.keys.find(key.id))?.key).toEqual(key);
  const largest = Number.MAX_SAFE_INTEGER;
  await scratch.db.ledger.commit({ changes: [], events: [sampleEvent({ at: largest })] });
  expect(await scratch.db.log.head()).toMatchObject({ at: largest });
});

test('a number outside that range is read exactly or refused, and not rounded', async () => {
  await using scratch = await withKeys([sampleKey({ id: 'a'.repeat(16) })]);
  await scratch.sql('update api_keys set expires_at = 9007199254740993');
  expect(await scratch.db.keys.find('a'.repeat(16))).toMatchObject({ key: { expires_at: 9007199254740993n } });
  await scratch.sql('update log_head set at = 9007199254740993');
  await expect(scratch.db.log.head()).rejects.toThrow();
  for (const broken of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 1e300])
    await expect(
      scratch.db.ledger.commit({ changes: insertKey(sampleKey({ created_at: broken })), events: [sampleEvent()] }),
    ).rejects.toThrow();
});

test('ids are ordered by their bytes, in lists and over pages', async () => {
  const ids = ['0', '9', 'A', 'B', 'Z', '_', 'a', 'b', 'z', 'Ä', 'ß', 'é', '日', '\uffee', '🚀'];
  const byBytes = ids.toSorted((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
  await using scratch = await openScratchDatabase();
  const changes = ids.toReversed().map((id) => insertTenant({ id, tenant_id: id }));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  const paged: string[] = [];
  for (;;) {
    const page = await scratch.db.tenants.list(paged.at(-1) ?? null, 2);
    if (page.length === 0) break;
    paged.push(...page.map((tenant) => tenant.id));
  }
  expect(paged).toEqual(byBytes);
});

test('a search ignores case, in every language', async () => {
  const names = ['Ärger', 'STRASSE', 'straße', 'ΟΔΟΣ', 'ПРИВЕТ', 'Ǆungla', 'É', 'İstanbul', 'ISTANBUL', 'plain'];
  await using scratch = await withKeys(
    names.map((name, at) => sampleKey({ id: `0${newId()}`, name, created_at: names.length - at })),
  );
  const found = async (text: string): Promise<unknown[]> =>
    (await scratch.db.keys.list({ ...everything, text })).items.map(({ key }) => key.name);
  expect(await found('äRG')).toEqual(['Ärger']);
  expect(await found('strasse')).toEqual(['STRASSE']);
  expect(await found('STRAß')).toEqual(['straße']);
  expect(await found('οδο')).toEqual(['ΟΔΟΣ']);
  expect(await found('привет')).toEqual(['ПРИВЕТ']);
  expect(await found('ǆUNGLA')).toEqual(['Ǆungla']);
  expect(await found('é')).toEqual(['É']);
  // İ has no small letter of one character: it is `i` with a dot above, which `i` alone finds.
  expect(await found('i̇stan')).toEqual(['İstanbul']);
  expect(await found('STANBUL')).toEqual(['İstanbul', 'ISTANBUL']);
  expect(await found('ist')).toEqual(['ISTANBUL']);
  // Letters are compared, and not what they look like.
  expect(await found('E')).toEqual(['Ärger', 'STRASSE', 'straße']);
  expect(await found('arger')).toEqual([]);
});

test('the start of an id is matched with its case', async () => {
  const id = `Ab${newId().slice(2)}`;
  await using scratch = await withKeys([sampleKey({ id, name: 'x' })]);
  const found = async (text: string): Promise<number> =>
    (await scratch.db.keys.list({ ...everything, text })).items.length;
  expect([await found('Ab'), await found('ab'), await found('b'), await found(id), await found(`${id}0`)]).toEqual([
    1, 0, 0, 1, 0,
  ]);
});
