import { expect, test } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import { changeLog, openScratchDatabase, type SqlValue, STORE } from '../../test/store.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { newEvent, PROCESS_ACTOR } from '../domain/event.ts';
import { createKey } from '../domain/key.ts';
import { EventCodec } from '../events/event-codec.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import { insertTenant } from '../testing/scratch-database.ts';
import { generateKey } from './key-generator.ts';
import { parseCreateInput } from './key-input.ts';
import type { KeyRows } from './key-rows.ts';
import { KeyStorage } from './key-storage.ts';
import { NextSecrets } from './next-secrets.ts';
import { versionSecret } from './version-secret.ts';

interface Tampered {
  readonly name: string;
  /** Of the key `?1`; `?2` is another key of the same tenant, or what `sealed` makes of the sealed part. */
  readonly sql: string;
  readonly sealed?: (before: Uint8Array) => Uint8Array;
}

/** Every one must be noticed. */
const TAMPERINGS: readonly Tampered[] = [
  { name: 'the state', sql: `update api_keys set state = 'revoked', state_at = 1 where id = ?1` },
  { name: 'the expiry', sql: 'update api_keys set expires_at = 99999999999999 where id = ?1' },
  { name: 'the permissions', sql: `update api_keys set permissions = '["*","pantheon:*"]' where id = ?1` },
  { name: 'permissions that are no JSON', sql: `update api_keys set permissions = '[' where id = ?1` },
  { name: 'what it may grant', sql: `update api_keys set grantable = '["*"]' where id = ?1` },
  { name: 'the rate limits', sql: `update api_keys set rate_limits = '[]' where id = ?1` },
  { name: 'the quota', sql: `update api_keys set quota = '{"limit":9,"period":"day"}' where id = ?1` },
  { name: 'the addresses', sql: `update api_keys set ip_allowlist = '["0.0.0.0/0"]' where id = ?1` },
  { name: 'the environment', sql: `update api_keys set environment = 'test' where id = ?1` },
  { name: 'the owner', sql: `update api_keys set user_id = 'mallory' where id = ?1` },
  { name: 'the tenant', sql: `update api_keys set tenant_id = 'system' where id = ?1` },
  { name: 'the version', sql: 'update api_keys set version = 1 where id = ?1' },
  { name: 'the revision', sql: 'update api_keys set revision = 7 where id = ?1' },
  { name: 'tokens not before', sql: 'update api_keys set tokens_not_before = 1 where id = ?1' },
  {
    name: 'one bit of the sealed part',
    sql: 'update api_keys set sealed = ?2 where id = ?1',
    sealed: (before) => before.map((byte, at) => (at === 60 ? byte ^ 1 : byte)),
  },
  {
    name: 'an empty sealed part',
    sql: 'update api_keys set sealed = ?2 where id = ?1',
    sealed: () => new Uint8Array(),
  },
  {
    name: 'the sealed part of another key',
    sql: 'update api_keys set sealed = (select sealed from api_keys where id = ?2) where id = ?1',
  },
  {
    name: 'the secret of another key',
    sql: `update api_key_versions set sealed = (select sealed from api_key_versions where key_id = ?2 and version = 2)
          where key_id = ?1 and version = 2`,
  },
  {
    name: 'the secret of another version',
    sql: `update api_key_versions set sealed = (select sealed from api_key_versions where key_id = ?1 and version = 1)
          where key_id = ?1 and version = 2`,
  },
  {
    name: 'how long an older version is accepted',
    sql: 'update api_key_versions set accepted_until = 99999999999999 where key_id = ?1 and version = 1',
  },
  { name: 'which secret tagged its id', sql: 'update api_keys set id_tag = null where id = ?1' },
  { name: 'no current version', sql: 'delete from api_key_versions where key_id = ?1 and version = 2' },
  { name: 'no older version', sql: 'delete from api_key_versions where key_id = ?1 and version = 1' },
  { name: 'no version at all', sql: 'delete from api_key_versions where key_id = ?1' },
];

async function twoKeys(engine: TestEngine) {
  const { auth } = engine;
  const make = async (name: string) => {
    const { key, apiKey } = await auth.keys.create({
      userId: 'u',
      name,
      permissions: ['docs:read'],
      rateLimits: [{ name: 'minute', limit: 100, window: '1m' }],
      ipAllowlist: ['10.0.0.0/8'],
    });
    const { key: next } = await auth.rotation.rotate(apiKey.id, { overlap: '1h' });
    return { id: apiKey.id, old: key, key: next };
  };
  return { victim: await make('victim'), other: await make('other') };
}

const ip = '10.1.1.1';

test.each(TAMPERINGS)(
  'a row that was changed outside of the service is refused and logged, and other keys are accepted: $name',
  async ({ sql, sealed }) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { victim, other } = await twoKeys(engine);
    expect(await auth.verify({ key: victim.key, ip })).toMatchObject({ valid: true });
    const [row] = await engine.sql('select sealed from api_keys where id = ?', victim.id);
    const second = sealed === undefined ? other.id : sealed(Uint8Array.from(row?.['sealed'] as Uint8Array));
    await engine.sql(sql, ...[victim.id, second].slice(0, sql.includes('?2') ? 2 : 1));

    // Who has not remembered it meets the changed row.
    const fresh = await engine.openAgain();
    for (const key of [victim.key, victim.old]) {
      expect((await refusalOf(fresh.verify({ key, ip }))).code).toBe('key_quarantined');
      const refused = await fresh.authenticate({
        url: '/',
        header: (name) => (name === 'authorization' ? [`Bearer ${key}`] : []),
        address: ip,
      });
      expect(refused).toMatchObject({ authenticated: false, refusal: { status: 503, code: 'key_quarantined' } });
    }
    for (const key of [other.key, other.old]) expect(await fresh.verify({ key, ip })).toMatchObject({ valid: true });

    const wasMoved = sql.includes('tenant_id');
    const expected = wasMoved ? 'not_found' : 'key_quarantined';
    expect((await refusalOf(fresh.keys.get(victim.id))).code).toBe(expected);
    expect((await refusalOf(fresh.keys.update(victim.id, { name: 'new' }))).code).toBe(expected);
    expect((await refusalOf(fresh.rotation.rotate(victim.id))).code).toBe(expected);
    const listed = (await fresh.tenant(wasMoved ? 'system' : 'default').keys.list()).items;
    expect(listed.find(({ id }) => id === victim.id)).toMatchObject({ quarantined: true });
    if (!wasMoved) expect(listed.find(({ id }) => id === other.id)).toMatchObject({ name: 'other', isActive: true });
  },
);

test('a damaged key can be revoked: its row is written again from the log, as revoked', async () => {
  await using engine = await openTestEngine();
  const { victim } = await twoKeys(engine);
  const before = await engine.auth.keys.get(victim.id);
  await engine.sql(`update api_keys set permissions = '["*"]', state = 'suspended'`);
  const fresh = await engine.openAgain();
  const revoked = await fresh.keys.revoke(victim.id, { reason: 'damaged' });
  expect(revoked).toMatchObject({ id: victim.id, state: 'revoked', permissions: before.permissions, version: 2 });
  expect(await fresh.keys.get(victim.id)).toMatchObject({ state: 'revoked', stateReason: 'damaged' });
  // Its secrets are gone with the row, so nobody can prove it any more.
  expect(await fresh.verify({ key: victim.key, ip })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
  const { items } = await fresh.events.list('default', { subjectId: victim.id, limit: 1 });
  expect(items).toMatchObject([{ type: 'key.revoked', reason: 'damaged' }]);
  // Once is enough.
  await fresh.keys.revoke(victim.id);
  expect((await fresh.events.list('default', { subjectId: victim.id, type: 'key.revoked' })).items).toHaveLength(1);
});

test('a damaged key whose events are damaged too can be revoked if the event of its creation can be read', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { victim, other } = await twoKeys(engine);
  for (const { id } of [victim, other]) await auth.rotation.rotate(id, { expectedVersion: 2 });
  await engine.sql(`update api_keys set permissions = '["*"]'`);
  const first = '(select min(seq) from events where subject_id = ?1 and type =';
  await changeLog(engine, `update events set body = '{}' where seq = ${first} 'key.rotated')`, victim.id);
  await changeLog(engine, `update events set body = '{}' where seq = ${first} 'key.created')`, other.id);
  expect(await auth.keys.revoke(victim.id)).toMatchObject({ state: 'revoked', version: 3 });
  expect((await refusalOf(auth.keys.revoke(other.id))).code).toBe('key_quarantined');
});

test('a row without any event is refused, also for a revocation', async () => {
  await using engine = await openTestEngine();
  const { victim } = await twoKeys(engine);
  await engine.sql(
    `insert into api_keys select 'MadeUpMadeUpMade', tenant_id, user_id, name, description, environment, permissions,
     grantable, state, state_at, state_reason, created_at, created_by, not_before, expires_at, tokens_not_before,
     rate_limits, quota, ip_allowlist, rotation, jwt_algorithm, version, revision, sealed, id_tag, kept_versions from api_keys where id = ?`,
    victim.id,
  );
  expect((await refusalOf(engine.auth.keys.revoke('MadeUpMadeUpMade'))).code).toBe('key_quarantined');
});

test('a row that is restored from an earlier time does not match the current versions', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
  const columns = ['state', 'state_at', 'revision', 'sealed'] as const;
  const [kept] = await engine.sql(`select ${columns.join(', ')} from api_keys`);
  await auth.keys.suspend(apiKey.id);
  const values = columns.map((name) => kept?.[name] as SqlValue);
  await engine.sql(`update api_keys set ${columns.map((name) => `${name} = ?`).join(', ')}`, ...values);
  expect((await refusalOf(auth.verify({ key }))).code).toBe('key_quarantined');
  // A file whose rows are older than its log says may be the file of another time: no start is made on it.
  if (STORE === 'sqlite') expect((await refusalOf(engine.openAgain())).code).toBe('store_unusable');
});

test('a key of another tenant does not exist, also if it cannot be decrypted (I10)', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const { apiKey } = await auth.tenant('acme').keys.create({ userId: 'u', name: 'n' });
  await engine.sql(`update api_keys set user_id = 'x'`);
  for (const attempt of [() => auth.keys.get(apiKey.id), () => auth.keys.revoke(apiKey.id)])
    expect((await refusalOf(attempt())).message).toBe((await refusalOf(auth.keys.get('NeverMadeNeverMa'))).message);
});

test('every setting of a key is stored and read unchanged', async () => {
  await using engine = await openTestEngine();
  const { apiKey } = await engine.auth.keys.create({
    userId: 'u',
    name: 'everything',
    description: 'all of it',
    environment: 'test',
    permissions: ['docs:*', 'a:b'],
    grantable: ['docs:*'],
    notBefore: '2030-02-01T00:00:00Z',
    expiresAt: new Date('2031-01-01T00:00:00Z'),
    rateLimits: [{ name: 'burst', limit: 5, window: 10 }],
    quota: { limit: 1_000, period: 'month' },
    ipAllowlist: ['10.0.0.0/8', '2001:db8::1'],
    rotation: { every: '30d', overlap: '2h' },
    jwt: { algorithm: 'HS256', audience: ['a', 'b'], customClaims: { team: { id: 7 } }, ttl: '1m' },
    metadata: { nested: { list: [1, null, 'x'] } },
  });
  const again = await engine.openAgain();
  expect(await again.keys.get(apiKey.id)).toEqual(apiKey);
  expect(apiKey).toMatchObject({
    description: 'all of it',
    environment: 'test',
    rateLimits: [{ name: 'burst', limit: 5, window: '10s' }],
    quota: { limit: 1_000, period: 'month' },
    ipAllowlist: ['10.0.0.0/8', '2001:db8::1/128'],
    rotation: { every: '30d', overlap: '2h' },
    jwt: { algorithm: 'HS256', audience: ['a', 'b'], customClaims: { team: { id: 7 } }, ttl: '1m' },
    metadata: { nested: { list: [1, null, 'x'] } },
    isActive: false,
    usageCount: 0,
  });
});

test('a column that is added later, null in existing rows, leaves them valid', async () => {
  await using db = await openScratchDatabase();
  const sealer: Sealer = { seal: async (_place, plain) => plain, open: async (_place, sealed) => Buffer.from(sealed) };
  const events = new EventCodec(db.db.events, sealer);
  const later: KeyRows = {
    ...db.db.keys,
    list: async () => ({ items: [], next: null }),
    childrenOf: async () => [],
    administrators: async () => [],
    find: async (id) => {
      const rows = await db.db.keys.find(id);
      return rows && { ...rows, key: { ...rows.key, colour: null } };
    },
  };
  const nextSecrets = new NextSecrets({ rows: db.db.nextSecrets, sealer });
  const storage = new KeyStorage({ rows: later, ledger: db.db.ledger, events, sealer, nextSecrets, expiryNotices: [] });
  const by = { actor: PROCESS_ACTOR, requestId: null, reason: null };
  const made = { at: 1, tenantId: 'default', subjectId: 'default', before: null, after: { name: 'default' } };
  const [tenantEvent] = await events.toRows([newEvent('tenant.created', made, by)]);
  await db.db.ledger.commit({ changes: [insertTenant()], events: [tenantEvent] });
  const generated = generateKey({ keyPrefix: 'pan', environment: 'live' });
  const settings = parseCreateInput({ userId: 'u', name: 'n' }, 0);
  const change = createKey({ id: generated.id, tenantId: 'default', createdBy: null, idTag: 1, settings }, by, 1);
  await storage.commit([{ change, secrets: [versionSecret(1, generated)] }]);
  expect((await storage.find(generated.id))?.record.name).toBe('n');
});
