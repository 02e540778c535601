/**
 * An integer in the database that a number cannot hold exactly, which only damage or tampering writes. It damages its own
 * row: every other row of the table is read as before, and the damaged one is never taken for one that allows something.
 */
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import { DAY_MS } from '../src/foundation/clock.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { SqlEventRows } from '../src/storage/rows/sql-event-rows.ts';
import { callerFor } from './callers.ts';
import { until } from './passing-time.ts';
import { refusalOf } from './refusal-of.ts';
import type { SqlValue } from './store.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

vi.setConfig({ testTimeout: 60_000 });

const INPUT = { userId: 'u', name: 'n' };
const OUT_OF_RANGE = ['9223372036854775807', '-9007199254740993'] as const;

interface Damaged {
  readonly table: string;
  readonly columns: readonly string[];
  /** Makes what the row is about; answers the condition that finds it, and what must be so once it is damaged. */
  readonly make: (engine: TestEngine) => Promise<{
    readonly where: string;
    readonly isSafe: (node: PantheonAuth) => Promise<void>;
  }>;
}

const TABLES: readonly Damaged[] = [
  {
    table: 'tenants',
    columns: ['created_at', 'revision'],
    async make({ auth }) {
      await auth.tenants.create({ id: 'acme' });
      const { key, apiKey } = await auth.tenant('acme').keys.create(INPUT);
      return {
        where: "id = 'acme'",
        async isSafe(node) {
          expect((await refusalOf(node.verify({ key, tenant: 'acme' }))).code).toBe('key_quarantined');
          expect((await refusalOf(node.tenants.get('acme'))).code).toBe('tenant_quarantined');
          const { items } = await node.tenants.list();
          expect(items).toMatchObject([{ id: 'acme', quarantined: true }, { id: 'default' }, { id: 'system' }]);
          const keys = await node.tenant('acme').keys.list();
          expect(keys.items).toMatchObject([{ id: apiKey.id, quarantined: true }]);
          expect(await node.tenants.suspend('acme')).toMatchObject({ state: 'suspended' });
          expect(await node.verify({ key, tenant: 'acme' })).toMatchObject({ denial: { code: 'suspended' } });
        },
      };
    },
  },
  {
    table: 'api_keys',
    columns: ['created_at', 'expires_at', 'revision', 'id_tag'],
    async make({ auth }) {
      const before = await auth.keys.create(INPUT);
      const { key, apiKey } = await auth.keys.create(INPUT);
      return {
        where: `id = '${apiKey.id}'`,
        async isSafe(node) {
          expect((await refusalOf(node.verify({ key }))).code).toBe('key_quarantined');
          expect(await node.verify({ key: before.key })).toMatchObject({ valid: true });
          const listed: object[] = [];
          for (let cursor: string | null | undefined; cursor !== null; ) {
            const page = await node.keys.list({ limit: 1, ...(cursor !== undefined && { cursor }) });
            listed.push(...page.items);
            cursor = page.nextCursor;
          }
          expect(listed.filter((one) => 'quarantined' in one)).toMatchObject([{ id: apiKey.id }]);
          expect(listed).toContainEqual(expect.objectContaining({ id: before.apiKey.id }));
          expect(await node.keys.revoke(apiKey.id)).toMatchObject({ state: 'revoked' });
          expect(await node.verify({ key })).toMatchObject({ valid: false });
        },
      };
    },
  },
  {
    table: 'api_key_versions',
    columns: ['created_at', 'accepted_until', 'version'],
    async make({ auth }) {
      const { key, apiKey } = await auth.keys.create(INPUT);
      const next = await auth.rotation.rotate(apiKey.id, { overlap: '1h' });
      return {
        where: `key_id = '${apiKey.id}' and version = 1`,
        async isSafe(node) {
          for (const held of [key, next.key])
            expect((await refusalOf(node.verify({ key: held }))).code).toBe('key_quarantined');
          expect((await node.keys.list()).items).toContainEqual(expect.objectContaining({ quarantined: true }));
        },
      };
    },
  },
  {
    table: 'signing_keys',
    columns: ['created_at', 'signs_from', 'revision'],
    async make({ auth }) {
      const { kid } = await auth.tokens.rotateSigningKey('RS256');
      return {
        where: `kid = '${kid}'`,
        async isSafe(node) {
          expect(node.tokens.signingKeys()).toContainEqual({ kid, algorithm: 'RS256', quarantined: true });
          expect(JSON.stringify(node.tokens.jwks())).not.toContain(kid);
          await node.tokens.rotateSigningKey('ES256');
          const other = node.tokens.signingKeys().find((one) => one.algorithm === 'RS256' && one.kid !== kid);
          await node.tokens.retireSigningKey(other?.kid ?? '', { compromised: true });
          expect(node.tokens.signingKeys().map((one) => one.kid)).not.toContain(other?.kid);
        },
      };
    },
  },
  {
    table: 'token_revocations',
    columns: ['expires_at', 'revision'],
    async make({ auth }) {
      const { key, apiKey } = await auth.keys.create(INPUT);
      const exchange = await auth.tokens.exchange({ key });
      if (!exchange.issued) throw new Error('No token was issued.');
      const { token } = exchange.token;
      const { jti: tokenId = '' } = decodeJwt(token);
      await auth.tokens.revoke({ tenantId: 'default', keyId: apiKey.id, tokenId, expiresAt: 0 });
      return {
        where: '1 = 1',
        async isSafe(node) {
          expect(await node.tokens.verify({ token })).toMatchObject({ valid: false, denial: { code: 'revoked' } });
        },
      };
    },
  },
  {
    table: 'id_tag_secrets',
    columns: ['created_at', 'retired_at', 'revision'],
    async make() {
      return {
        where: 'number = 1',
        async isSafe(node) {
          expect(node.idTags.list()).toContainEqual(expect.objectContaining({ quarantined: true }));
        },
      };
    },
  },
];

describe('an integer out of range damages its own row only', () => {
  const cases = TABLES.flatMap((one) =>
    one.columns.flatMap((column) => OUT_OF_RANGE.map((value) => ({ ...one, column, value }))),
  );
  test.each(cases)('$table, $column: $value', async ({ table, column, value, make }) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const sound = await auth.keys.create(INPUT);
    const { where, isSafe } = await make(engine);
    await engine.sql(`update ${table} set ${column} = ${value} where ${where}`);
    const fresh = await engine.openAgain();
    await isSafe(fresh);
    expect(await fresh.verify({ key: sound.key })).toMatchObject({ valid: true });
    expect(await fresh.tokens.exchange({ key: sound.key })).toMatchObject({ issued: true });
    expect(await fresh.keys.list({ userId: 'u' })).toMatchObject({ nextCursor: null });
  });
});

describe('a key whose revision is not that of its events', () => {
  test.each([...OUT_OF_RANGE, '77'])('%s: it is revoked, also within a cascade', async (revision) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const parent = await auth.keys.create({ ...INPUT, permissions: ['pantheon:keys:create'] });
    const by = await callerFor(auth, parent.key);
    const children = [];
    for (let n = 0; n < 3; n += 1) children.push(await auth.keys.create(INPUT, { by }));
    await engine.sql(`update api_keys set revision = ${revision} where id = ?`, children[1]?.apiKey.id ?? '');
    const fresh = await engine.openAgain();
    expect(await fresh.keys.revoke(parent.apiKey.id, { cascade: true })).toMatchObject({ actedOn: { complete: true } });
    for (const { key, apiKey } of [parent, ...children]) {
      expect(await fresh.keys.get(apiKey.id)).toMatchObject({ state: 'revoked' });
      expect(await fresh.verify({ key })).toMatchObject({ valid: false });
    }
  });

  test('a cascade revokes the others, and what it acted on, also when one cannot be rebuilt from its events, and says that it is not complete', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const parent = await auth.keys.create({ ...INPUT, permissions: ['pantheon:keys:create', 'pantheon:keys:update'] });
    const by = await callerFor(auth, parent.key);
    const children = [];
    for (let n = 0; n < 3; n += 1) children.push(await auth.keys.create(INPUT, { by }));
    const touched = await auth.keys.create(INPUT);
    await auth.keys.update(touched.apiKey.id, { description: 'touched' }, { by });
    const lost = children[1]?.apiKey.id ?? '';
    await engine.sql("update api_keys set name = 'forged' where id = ?", lost);
    const { list } = SqlEventRows.prototype;
    vi.spyOn(SqlEventRows.prototype, 'list').mockImplementation(function (this: SqlEventRows, query, signal) {
      return query.subjectId === lost ? Promise.resolve({ items: [], next: null }) : list.call(this, query, signal);
    });
    const fresh = await engine.openAgain();
    expect(await fresh.keys.revoke(parent.apiKey.id, { cascade: 'acted' })).toMatchObject({
      actedOn: {
        complete: false,
        items: [
          { keyId: lost, revoked: false },
          { keyId: touched.apiKey.id, revoked: true },
        ],
      },
    });
    for (const { key } of [parent, touched, ...children.filter(({ apiKey }) => apiKey.id !== lost)])
      expect(await fresh.verify({ key })).toMatchObject({ denial: { code: 'revoked' } });
    expect((await refusalOf(fresh.verify({ key: children[1]?.key ?? '' }))).code).toBe('key_quarantined');
  });
});

test('a version that is to end with the first use of the next ends, also when the schedule does not say which use', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key, apiKey } = await auth.keys.create(INPUT);
  clock.advance(2 * DAY_MS);
  const rotated = await auth.rotation.rotate(apiKey.id, { overlap: '30d', retireOnFirstUse: true });
  await until(engine, async () =>
    expect(await engine.sql('select * from key_schedules')).toMatchObject([{ look_at: null, awaits_use_of: 2 }]),
  );
  await engine.sql(`update key_schedules set awaits_use_of = ${OUT_OF_RANGE[0]}`);
  expect(await auth.verify({ key: rotated.key })).toMatchObject({ valid: true });
  await until(engine, async () =>
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'version_retired' } }),
  );
});

describe('an integer out of range in the schedule of a key', () => {
  const columns = ['look_at', 'revision', 'awaits_use_of', 'announced', 'announced_since', 'expiry_announced_of'];
  test.each(columns.flatMap((column) => OUT_OF_RANGE.map((value) => ({ column, value }))))(
    '$column: $value: its announcements and those of other keys are made, and uses are stored',
    async ({ column, value }) => {
      await using engine = await openTestEngine();
      const { auth, clock, logged } = engine;
      const rotation = { every: '30d', window: '10d' } as const;
      const damaged = await auth.keys.create({ ...INPUT, rotation });
      const sound = await auth.keys.create({ ...INPUT, rotation });
      await engine.sql(`update key_schedules set ${column} = ${value} where key_id = ?`, damaged.apiKey.id);
      clock.advance(30 * DAY_MS);
      for (const { apiKey } of [damaged, sound])
        await until(engine, async () => {
          const { items } = await auth.events.list('default', { subjectId: apiKey.id });
          expect(items.map(({ type }) => type)).toContain('key.rotation_due');
        });
      expect(logged.filter((line) => line.includes('schedule of this key was damaged'))).toHaveLength(1);
      // Uses of both are stored in one batch.
      for (const { key } of [damaged, sound]) expect(await auth.verify({ key })).toMatchObject({ valid: true });
      await until(engine, async () => {
        expect(await engine.sql('select key_id from version_usage')).toHaveLength(2);
      });
    },
  );
});

describe('an integer out of range in the usage of a key', () => {
  const columns = ['usage_count', 'last_used_at'];
  test.each(columns.flatMap((column) => OUT_OF_RANGE.map((value) => ({ column, value }))))(
    '$column: $value: keys are listed, and uses are stored, by which a version of another key is retired',
    async ({ column, value }) => {
      await using engine = await openTestEngine();
      const { auth, clock } = engine;
      clock.advance(2 * DAY_MS);
      const damaged = await auth.keys.create(INPUT);
      const sound = await auth.keys.create(INPUT);
      const usesOf = async (keyId: string) => await engine.sql('select 1 from version_usage where key_id = ?', keyId);
      await auth.verify({ key: damaged.key });
      await until(engine, async () => expect(await usesOf(damaged.apiKey.id)).toHaveLength(1));
      await engine.sql(`update version_usage set ${column} = ${value} where key_id = ?`, damaged.apiKey.id);

      const shown = { id: damaged.apiKey.id, usageCount: 1 };
      const { items: listed } = await auth.keys.list();
      for (const one of [shown, { id: sound.apiKey.id, usageCount: 0 }])
        expect(listed).toContainEqual(expect.objectContaining(one));
      const alone = await auth.keys.get(damaged.apiKey.id);
      expect(alone).toMatchObject(shown);
      expect('lastUsedAt' in alone).toBe(column === 'usage_count');
      expect(await auth.keys.versions(damaged.apiKey.id)).toMatchObject([{ version: 1, usageCount: 1 }]);

      const rotated = await auth.rotation.rotate(sound.apiKey.id, { overlap: '30d', retireOnFirstUse: true });
      // Uses of both are stored in one batch.
      for (const key of [damaged.key, rotated.key]) expect(await auth.verify({ key })).toMatchObject({ valid: true });
      await until(engine, async () => {
        const { items } = await auth.events.list('default', { subjectId: sound.apiKey.id });
        expect(items.map(({ type }) => type)).toContain('key.version_retired');
      });
      const after = await auth.keys.get(damaged.apiKey.id);
      expect(after.usageCount).toBe(2);
      expect(clock.now() - (after.lastUsedAt?.getTime() ?? 0)).toBeLessThan(DAY_MS);
    },
  );

  test.each(OUT_OF_RANGE)('a version whose count is %s was used: only with force is it rolled back', async (value) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT);
    await auth.rotation.rotate(apiKey.id, { overlap: '30d' });
    await engine.sql(
      `insert into version_usage (tenant_id, key_id, version, usage_count, last_used_at, last_addresses)
       values ('default', ?, 2, ${value}, 1, '[]')`,
      apiKey.id,
    );
    expect((await refusalOf(auth.rotation.rollBack(apiKey.id))).code).toBe('version_in_use');
    expect((await auth.rotation.rollBack(apiKey.id, { force: true })).version).toBe(1);
  });
});

describe('a signing key with an integer out of range can be retired, and stays retired when its row is repaired', () => {
  const integers = [
    ...['created_at', 'signs_from', 'retired_at', 'revision'].flatMap((column) =>
      OUT_OF_RANGE.map((value) => ({ column, value })),
    ),
    // A number holds it exactly, but not the next one.
    { column: 'revision', value: '9007199254740991' },
  ];
  const ways = ['by itself', 'by itself as compromised', 'with another one that is compromised'] as const;
  const COMPROMISED = { compromised: true };

  test.each(integers.flatMap((one) => ways.map((way) => ({ ...one, way }))))(
    '$column: $value, $way',
    async ({ column, value, way }) => {
      await using engine = await openTestEngine();
      const { key } = await engine.auth.keys.create(INPUT);
      const exchange = await engine.auth.tokens.exchange({ key });
      if (!exchange.issued) throw new Error('No token was issued.');
      const { token } = exchange.token;
      const { kid = '' } = decodeProtectedHeader(token);
      const [before = {}] = await engine.sql('select * from signing_keys where kid = ?', kid);
      await engine.sql(`update signing_keys set ${column} = ${value} where kid = ?`, kid);
      const { tokens } = await engine.openAgain();
      expect(tokens.signingKeys()).toContainEqual({ kid, algorithm: 'ES256', quarantined: true });
      const other = tokens.signingKeys().find((one) => one.algorithm === 'ES256' && one.kid !== kid)?.kid ?? '';
      const named = way === 'with another one that is compromised' ? other : kid;
      await tokens.retireSigningKey(named, way === 'by itself' ? {} : COMPROMISED);
      const left = tokens.signingKeys().map((one) => one.kid);
      expect(left).not.toContain(kid);
      expect(left.includes(other)).toBe(way === 'by itself');
      // Also of one that is retired, the other integers may still be damaged.
      await tokens.retireSigningKey(kid);

      const [ended = {}] = await engine.sql('select retired_at, revision from signing_keys where kid = ?', kid);
      for (const sound of ['retired_at', 'revision']) expect(Number(ended[sound])).toSatisfy(Number.isSafeInteger);
      expect(Number(ended['revision'])).toBeGreaterThan(column === 'revision' ? 1_000_000 : 1);
      const isWritten = column === 'retired_at' || column === 'revision';
      if (!isWritten)
        await engine.sql(`update signing_keys set ${column} = ? where kid = ?`, before[column] as SqlValue, kid);
      const fresh = await engine.openAgain();
      expect(fresh.tokens.signingKeys().map((one) => one.kid)).not.toContain(kid);
      expect(JSON.stringify(fresh.tokens.jwks())).not.toContain(kid);
      expect(await fresh.tokens.verify({ token })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
      const { items } = await fresh.events.list('system', { type: 'signing_key.retired', subjectId: kid });
      expect(items).toHaveLength(1);
    },
  );

  test('also when the revision that it had is put back afterwards', async () => {
    await using engine = await openTestEngine();
    const { tokens } = engine.auth;
    const [kid, other] = tokens.signingKeys().flatMap((one) => (one.algorithm === 'ES256' ? [one.kid] : []));
    await engine.sql('update signing_keys set revision = 9223372036854775807 where kid = ?', kid ?? '');
    await tokens.retireSigningKey(other ?? '', COMPROMISED);
    await engine.sql('update signing_keys set revision = 1 where kid = ?', kid ?? '');
    const fresh = await engine.openAgain();
    expect(fresh.tokens.signingKeys().map((one) => one.kid)).not.toContain(kid);
    expect(JSON.stringify(fresh.tokens.jwks())).not.toContain(kid);
  });
});
