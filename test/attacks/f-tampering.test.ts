/**
 * Attacks by who can write to the database file: a row that was changed, moved or put back does not open, and no other
 * key suffers. What is not attacked here, and why, is in the table of `f-storage.test.ts`.
 */

import { randomBytes } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import type { CreatedKey } from 'pantheon-auth';
import { ANY_TENANT } from 'pantheon-auth';
import { TestClock } from 'pantheon-auth/testing';
import { expect, test } from 'vitest';
import { bySql, type Row } from './forge.ts';
import { expectNoSecretWritten, keepSecret, openEngine } from './harness.ts';

/** That a row does not open is remembered for so long: beyond it, each verification is a read. */
const DAMAGED_REMEMBERED_MS = 10_000;

/** Nothing runs in the background, whose writes those that are made here, beside the engine, would meet. */
class ClockWithoutTimers extends TestClock {
  override readonly timers = { after: () => () => {} };
}

/** Two keys in one tenant and one in another. One key is remembered at a time, so each verification is a read. */
async function threeKeys() {
  const engine = await openEngine({ knownKeysMax: 1, testClock: new ClockWithoutTimers() });
  await engine.auth.tenants.create({ id: 'acme' });
  const one = await engine.create({
    permissions: ['docs:read'],
    metadata: { a: 1 },
    jwt: { algorithm: 'HS256' },
    ipAllowlist: ['10.0.0.0/8'],
  });
  const other = await engine.create({ permissions: ['docs:write'] });
  const foreign = await engine.create({ permissions: ['docs:read'] }, 'acme');
  const rotated = await engine.auth.rotation.rotate(one.apiKey.id, { overlap: '30d' });
  keepSecret(rotated.key);
  const verify = async (key: string): Promise<string> => {
    const ask = (text: string) => engine.auth.verify({ key: text, ip: '10.1.1.1', tenant: ANY_TENANT });
    expect(await ask(other.key === key ? foreign.key : other.key)).toMatchObject({ valid: true });
    engine.clock.advance(DAMAGED_REMEMBERED_MS);
    return ask(key).then(
      (verified) => (verified.valid ? 'valid' : verified.denial.code),
      (error: { code?: string }) => String(error.code ?? error),
    );
  };
  return { engine, one, other, foreign, rotated, verify };
}

test('every changed byte of a sealed value is detected, and affects that key alone', async () => {
  const { engine, one, rotated, verify } = await threeKeys();
  await using _ = engine;
  const { id } = one.apiKey;
  const db = new DatabaseSync(engine.databaseFile);
  for (const [table, where] of [
    ['api_keys', 'id = ?'],
    ['api_key_versions', 'key_id = ? and version = 2'],
  ] as const) {
    const { sealed } = db.prepare(`select sealed from ${table} where ${where}`).get(id) as { sealed: Uint8Array };
    const update = db.prepare(`update ${table} set sealed = ? where ${where}`);
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = Uint8Array.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      update.run(changed, id);
      expect(await verify(rotated.key), `byte ${at}`).toBe('key_quarantined');
    }
    const others = [
      new Uint8Array(0),
      sealed.slice(1),
      sealed.slice(0, -1),
      sealed.slice(0, 45),
      Buffer.concat([sealed, sealed]),
    ];
    for (const changed of [...others, randomBytes(sealed.length)]) {
      update.run(changed, id);
      expect(await verify(rotated.key)).toBe('key_quarantined');
    }
    update.run(sealed, id);
    expect(await verify(rotated.key)).toBe('valid');
  }
  db.close();
});

test('every column of a key is protected: a change by SQL is detected, also of a revocation', async () => {
  const { engine, one, rotated, other, foreign, verify } = await threeKeys();
  await using _ = engine;
  await engine.auth.keys.suspend(one.apiKey.id, { reason: 'for a while' });
  expect(await verify(rotated.key)).toBe('suspended');
  const db = new DatabaseSync(engine.databaseFile);
  db.exec('pragma foreign_keys = off');
  let changed = 0;
  for (const [table, owner] of [
    ['api_keys', 'id'],
    ['api_key_versions', 'key_id'],
  ] as const) {
    const rows = db.prepare(`select * from ${table} where ${owner} = ?`).all(one.apiKey.id) as Row[];
    for (const row of rows) {
      const where = table === 'api_keys' ? 'id = ?' : `key_id = ? and version = ${String(row['version'])}`;
      for (const [column, value] of Object.entries(row)) {
        if (column === 'sealed' || column === owner) continue;
        for (const forged of forgeries(column, value)) {
          db.prepare(`update ${table} set ${column} = ? where ${where}`).run(forged, one.apiKey.id);
          expect(await verify(rotated.key), `${table}.${column}`).toBe('key_quarantined');
          changed += 1;
          const restoreWhere =
            column === 'version' && table === 'api_key_versions' ? `key_id = ? and version = ${String(forged)}` : where;
          db.prepare(`update ${table} set ${column} = ? where ${restoreWhere}`).run(value as string, one.apiKey.id);
        }
      }
    }
  }
  expect(changed).toBeGreaterThan(50);
  expect(await verify(rotated.key)).toBe('suspended');

  await engine.auth.keys.revoke(other.apiKey.id);
  db.prepare("update api_keys set state = 'active', state_at = null, state_reason = null where id = ?").run(
    other.apiKey.id,
  );
  expect(await engine.auth.verify({ key: foreign.key, tenant: 'acme' })).toMatchObject({ valid: true });
  await expect(engine.auth.verify({ key: other.key })).rejects.toMatchObject({ code: 'key_quarantined' });
  db.close();
}, 60_000);

/** Values that a forger would want, of the type that the column takes. */
function forgeries(column: string, value: unknown): readonly (string | number)[] {
  if (column === 'tenant_id') return ['acme', 'system'];
  if (column === 'state') return ['active', 'revoked'];
  if (column === 'permissions' || column === 'grantable') return ['["*"]', '["pantheon:*"]'];
  if (column === 'ip_allowlist' || column === 'rate_limits')
    return [column === 'rate_limits' ? '[{"name":"x","limit":1,"window":"1s"}]' : '["0.0.0.0/0"]'];
  if (column === 'environment') return ['test'];
  if (column === 'quota') return ['{"limit":1,"period":"day"}'];
  if (column === 'rotation') return ['{"overlap":"1h"}'];
  if (column === 'jwt_algorithm') return ['ES256'];
  if (column === 'retires_on_first_use') return [1, 0];
  if (column === 'kept_versions') return ['[1]', '[9,1]'];
  const isNumber = /_at$|_until$|^not_before$|tokens_not_before|version|revision|id_tag/.test(column);
  if (isNumber) return [typeof value === 'number' ? value + 7 : 4_102_444_800_000, 1_000_000];
  return ['forged'];
}

test('a sealed value is decrypted in its own row and column and nowhere else', async () => {
  const { engine, one, other, foreign, rotated, verify } = await threeKeys();
  await using _ = engine;
  const db = new DatabaseSync(engine.databaseFile);
  db.exec('pragma foreign_keys = off');
  const sealedOf = (table: string, where: string) =>
    (db.prepare(`select sealed from ${table} where ${where}`).get() as { sealed: Uint8Array }).sealed;
  const keyRow = (key: CreatedKey) => ['api_keys', `id = '${key.apiKey.id}'`] as const;
  const versionRow = (key: CreatedKey, version: number) =>
    ['api_key_versions', `key_id = '${key.apiKey.id}' and version = ${version}`] as const;
  const swaps = [
    [keyRow(one), keyRow(other)],
    [keyRow(one), keyRow(foreign)],
    [keyRow(one), versionRow(one, 2)],
    [versionRow(one, 1), versionRow(one, 2)],
    [versionRow(one, 2), versionRow(foreign, 1)],
    [versionRow(one, 2), versionRow(other, 1)],
  ] as const;
  for (const [to, from] of swaps) {
    const [mine, theirs] = [sealedOf(to[0], to[1]), sealedOf(from[0], from[1])];
    db.prepare(`update ${to[0]} set sealed = ? where ${to[1]}`).run(theirs);
    expect(await verify(rotated.key), `${to.join()} from ${from.join()}`).toBe('key_quarantined');
    db.prepare(`update ${to[0]} set sealed = ? where ${to[1]}`).run(mine);
  }
  expect(await verify(rotated.key)).toBe('valid');

  // A whole row under another id: the attacker's own key, for which it knows the secret, with the rights of another.
  for (const column of ['permissions', 'grantable', 'tenant_id', 'user_id']) {
    const own = db.prepare('select * from api_keys where id = ?').get(other.apiKey.id) as Row;
    db.prepare(`update api_keys set ${column} = (select ${column} from api_keys where id = ?) where id = ?`).run(
      foreign.apiKey.id,
      other.apiKey.id,
    );
    const isSame =
      own[column] === (db.prepare('select * from api_keys where id = ?').get(other.apiKey.id) as Row)[column];
    await engine.auth.verify({ key: rotated.key, ip: '10.1.1.1' });
    engine.clock.advance(DAMAGED_REMEMBERED_MS);
    if (!isSame)
      await expect(engine.auth.verify({ key: other.key, tenant: ANY_TENANT }), column).rejects.toMatchObject({
        code: 'key_quarantined',
      });
    db.prepare(`update api_keys set ${column} = ? where id = ?`).run(own[column] as string, other.apiKey.id);
  }
  // The attacker's secret under the victim's id.
  const victim = db
    .prepare('select * from api_key_versions where key_id = ? and version = 2')
    .get(one.apiKey.id) as Row;
  db.prepare(
    'update api_key_versions set sealed = (select sealed from api_key_versions where key_id = ?) where key_id = ?',
  ).run(other.apiKey.id, one.apiKey.id);
  expect(await verify(rotated.key)).toBe('key_quarantined');
  db.prepare('delete from api_key_versions where key_id = ?').run(one.apiKey.id);
  expect(await verify(rotated.key)).toBe('key_quarantined');
  // Only the newest, only the oldest: a version that is missing is noticed.
  const put = db.prepare(
    'insert into api_key_versions (key_id, tenant_id, version, created_at, accepted_until, revision, sealed) values (?, ?, ?, ?, ?, ?, ?)',
  );
  put.run(
    ...(['key_id', 'tenant_id', 'version', 'created_at', 'accepted_until', 'revision', 'sealed'].map(
      (name) => victim[name],
    ) as string[]),
  );
  expect(await verify(rotated.key)).toBe('key_quarantined');
  db.close();
});

test('a retired version cannot be restored, nor its end be changed', async () => {
  const { engine, one, rotated } = await threeKeys();
  await using _ = engine;
  const versions = () =>
    bySql(
      engine.databaseFile,
      (db) =>
        db.prepare('select * from api_key_versions where key_id = ? order by version').all(one.apiKey.id) as Row[],
    );
  const before = versions();
  await engine.auth.rotation.retire(one.apiKey.id, 1);
  const verify = (key: string) => engine.auth.verify({ key, ip: '10.1.1.1' });
  expect(await verify(one.key)).toMatchObject({ valid: false, denial: { code: 'version_retired' } });
  bySql(engine.databaseFile, (db) => {
    for (const row of before) {
      db.prepare(
        'update api_key_versions set accepted_until = ?, revision = ?, sealed = ? where key_id = ? and version = ?',
      ).run(...(['accepted_until', 'revision', 'sealed', 'key_id', 'version'].map((name) => row[name]) as string[]));
    }
  });
  const again = await engine.restarted();
  for (const key of [one.key, rotated.key]) {
    await expect(again.auth.verify({ key, ip: '10.1.1.1' })).rejects.toMatchObject({ code: 'key_quarantined' });
  }
  await again[Symbol.asyncDispose]();
});

test('a damaged data key affects its tenant alone, and one of another tenant is not used', async () => {
  const { engine, one, foreign, rotated } = await threeKeys();
  await using _ = engine;
  await engine.auth.close();
  const original = bySql(
    engine.databaseFile,
    (db) => db.prepare("select * from data_keys where tenant_id = 'default'").all() as Row[],
  );
  const attacks = [
    "update data_keys set wrapped = zeroblob(length(wrapped)) where tenant_id = 'default'",
    "update data_keys set wrapped = (select wrapped from data_keys where tenant_id = 'acme') where tenant_id = 'default'",
    "delete from data_keys where tenant_id = 'default'",
  ];
  for (const attack of attacks) {
    bySql(engine.databaseFile, (db) => db.exec(attack));
    const opened = await openEngine({ dataDir: engine.dataDir, testClock: engine.clock });
    await expect(opened.auth.verify({ key: rotated.key, ip: '10.1.1.1' }), attack).rejects.toMatchObject({
      code: 'key_quarantined',
    });
    expect(await opened.auth.verify({ key: foreign.key, tenant: 'acme' }), attack).toMatchObject({ valid: true });
    expect((await opened.auth.keys.list()).items).toContainEqual(
      expect.objectContaining({ id: one.apiKey.id, quarantined: true }),
    );
    await opened.auth.close();
    bySql(engine.databaseFile, (db) => {
      db.exec("delete from data_keys where tenant_id = 'default'");
      const put = db.prepare(
        'insert into data_keys (id, tenant_id, wrapped, created_at, retired_at, seals) values (?, ?, ?, ?, ?, ?)',
      );
      for (const row of original)
        put.run(
          ...(['id', 'tenant_id', 'wrapped', 'created_at', 'retired_at', 'seals'].map((name) => row[name]) as string[]),
        );
    });
  }
});

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
