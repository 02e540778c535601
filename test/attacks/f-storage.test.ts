/**
 * Attacks on what is stored: read by a thief, changed behind our back, cut off in the middle, or short of room.
 *
 * | not attacked here | because |
 * |---|---|
 * | `audit verify`, checkpoints, witness, truncated tails, forks | they do not exist yet; each leaf is recomputed here from its event |
 * | a whole key, or the whole file, put back to an earlier state | only a checkpoint outside can tell; there is none yet |
 * | a tenant, a retired signing key or a revoked token put back by SQL | their rows are not bound to anything yet |
 * | backups, restore, migrations between versions | there is one schema and no backup command |
 * | webhook secrets | they do not exist yet |
 * | core dumps and heap snapshots | whoever can take one has the process, and so its master key |
 * | writers on several nodes | SQLite only; two processes on one file are in the library's own tests |
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createPantheonAuth, parseKey } from 'pantheon-auth';
import { scratchFolder, TestClock } from 'pantheon-auth/testing';
import { loadConfig } from 'pantheon-auth-server';
import { expect, test } from 'vitest';
import { bySql, holderSecret, masterKeyOf, privateKeysOf, type Row, withStolenData } from './forge.ts';
import { type Engine, expectNoSecretWritten, ISSUER, keepSecret, openEngine, openService } from './harness.ts';

/** Every way in which somebody would find these bytes in a file. */
function spellings(bytes: Buffer): readonly Buffer[] {
  const hex = bytes.toString('hex');
  const texts = [hex, hex.toUpperCase(), bytes.toString('base64').replace(/=+$/, ''), bytes.toString('base64url')];
  return [bytes, ...texts.map((text) => Buffer.from(text))];
}

function filesOf(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** The data folder as a thief copies it, without what is kept elsewhere. */
function stolenFrom(engine: Engine, folder: string, without: readonly string[] = ['master.key', 'root.key']): string {
  const copy = join(folder, `stolen-${randomBytes(4).toString('hex')}`);
  cpSync(engine.dataDir, copy, { recursive: true, filter: (path) => !without.some((name) => path.endsWith(name)) });
  return copy;
}

test('no file of the data folder contains a key, a hash, a derived secret, a private key, metadata or the master key', async () => {
  await using service = await openService();
  const { engine, auth, root } = service;
  const metadata = { note: 'metadata-canary-7f3a' };
  const customClaims = { plan: 'claims-canary-91c2' };
  const made = await engine.create({ metadata, jwt: { algorithm: 'HS256', customClaims } });
  const rotated = await auth.rotation.rotate(made.apiKey.id, { overlap: 60 });
  const gone = await engine.create({ metadata });
  await auth.keys.revoke(gone.apiKey.id, { reason: 'it leaked' });
  await service.call({ method: 'GET', url: '/v1/keys', by: root, headers: { 'user-agent': 'agent-canary-08be' } });
  const headers = { 'user-agent': 'agent-canary-08be', 'idempotency-key': 'idempotency-canary-e11f' };
  const created = await service.call({
    method: 'POST',
    url: '/v1/keys',
    by: root,
    headers,
    payload: { userId: 'u', name: 'n' },
    secret: true,
  });
  const shown = String(created.json()['key']);
  keepSecret(rotated.key, shown);

  const needles: Buffer[] = [];
  for (const key of [made.key, rotated.key, gone.key, root, shown]) {
    const secret = parseKey(key)?.secret ?? '';
    needles.push(Buffer.from(key), Buffer.from(secret), ...spellings(createHash('sha256').update(key).digest()));
    needles.push(...spellings(createHash('sha256').update(secret).digest()), ...spellings(holderSecret(key)));
  }
  for (const { key } of Object.values(await privateKeysOf(engine))) {
    const { d = '' } = key.export({ format: 'jwk' });
    needles.push(...spellings(Buffer.from(d, 'base64url')), ...spellings(key.export({ format: 'der', type: 'pkcs8' })));
  }
  for (const canary of ['metadata-canary-7f3a', 'claims-canary-91c2', 'agent-canary-08be', 'idempotency-canary-e11f']) {
    needles.push(...spellings(Buffer.from(canary)));
  }
  const masterKey = spellings(masterKeyOf(engine.dataDir));

  const scan = (): void => {
    const files = filesOf(engine.dataDir);
    expect(files.some((file) => file.endsWith('.db'))).toBe(true);
    for (const file of files) {
      const bytes = readFileSync(file);
      const sought = [...(file.endsWith('root.key') ? [] : needles), ...(file.endsWith('master.key') ? [] : masterKey)];
      expect(sought.filter((needle) => bytes.includes(needle)).length, file).toBe(0);
      expect(statSync(file).mode & 0o077, file).toBe(0);
    }
    expect(
      files.flatMap((file) => spellings(Buffer.from(made.apiKey.id)).filter((id) => readFileSync(file).includes(id)))
        .length,
    ).toBeGreaterThan(0);
  };
  scan(); // With the WAL and its index beside it.
  await service.app.close();
  await auth.close();
  scan();
});

test('the data without the master key cannot be used: no start, no check of a key, no forgery', async () => {
  using folder = scratchFolder();
  await using engine = await openEngine();
  const { key } = await engine.create({ jwt: { algorithm: 'HS256' } });
  const stolen = stolenFrom(engine, folder.path);
  const open = (options: object) =>
    createPantheonAuth({ dataDir: stolen, issuer: ISSUER, clock: engine.clock, ...options });
  await expect(open({})).rejects.toMatchObject({ code: 'master_key_missing' });
  await expect(open({ masterKey: randomBytes(32).toString('hex') })).rejects.toMatchObject({
    code: 'master_key_mismatch',
  });
  await expect(open({ masterKey: '0'.repeat(64) })).rejects.toMatchObject({ code: 'invalid_setting' });

  const databaseFile = join(stolen, 'pantheon-auth.db');
  // Without the canary a start would take any key for the right one. It still opens nothing that was sealed.
  bySql(databaseFile, (db) => db.exec("delete from meta where name = 'canary'"));
  const masterKey = randomBytes(32);
  const own = await open({ masterKey: masterKey.toString('hex') }).catch((error: unknown) => error);
  if (own !== null && typeof own === 'object' && 'verify' in own) {
    const auth = own as Engine['auth'];
    await expect(auth.verify({ key })).rejects.toMatchObject({ code: 'key_quarantined' });
    await auth.close();
  } else {
    expect(own).toMatchObject({ code: expect.stringMatching(/^(?:key_quarantined|master_key_mismatch)$/) });
  }
  await expect(privateKeysWith(databaseFile, masterKey)).rejects.toMatchObject({ code: 'key_quarantined' });
  // The same thief with the right key opens it: the attack above fails for want of the key and of nothing else.
  expect(await versionHashes(databaseFile, masterKeyOf(engine.dataDir))).toContain(
    createHash('sha256').update(key).digest('base64'),
  );
});

function privateKeysWith(databaseFile: string, masterKey: Buffer): Promise<unknown> {
  return withStolenData({ databaseFile, masterKey }, async (db, envelope) => {
    const [row] = await db.signingKeys.all();
    const place = {
      table: 'signing_keys',
      column: 'sealed',
      tenantId: 'system',
      rowId: String(row?.['kid']),
      version: 0,
    };
    return envelope.open(place, row?.['sealed'] as Uint8Array);
  });
}

function versionHashes(databaseFile: string, masterKey: Buffer): Promise<readonly unknown[]> {
  const rows = bySql(databaseFile, (db) => db.prepare('select * from api_key_versions').all() as Row[]);
  return withStolenData({ databaseFile, masterKey }, (_db, envelope) =>
    Promise.all(
      rows.map(async (row) => {
        const place = {
          table: 'api_key_versions',
          column: 'sealed',
          tenantId: String(row['tenant_id']),
          rowId: String(row['key_id']),
          version: Number(row['version']),
        };
        const opened = JSON.parse((await envelope.open(place, row['sealed'] as Uint8Array)).toString()) as Row;
        return opened['keyHash'];
      }),
    ),
  );
}

test('the master key without the data gives no access', async () => {
  await using engine = await openEngine();
  const { key } = await engine.create();
  const exchange = await engine.auth.tokens.exchange({ key });
  if (!exchange.issued) throw new Error('not issued');
  keepSecret(exchange.token.token.slice(-43));
  const open = (dataDir: string) =>
    createPantheonAuth({
      dataDir,
      masterKey: masterKeyOf(engine.dataDir).toString('hex'),
      issuer: ISSUER,
      clock: engine.clock,
    });
  using folder = scratchFolder();
  // Beside the file of the master key no empty store is begun by mistake.
  const beside = join(folder.path, 'beside');
  mkdirSync(beside, { mode: 0o700 });
  cpSync(join(engine.dataDir, 'master.key'), join(beside, 'master.key'));
  await expect(open(beside)).rejects.toMatchObject({ code: 'database_missing' });
  expect(readdirSync(beside)).toEqual(['master.key']);

  const thief = await open(join(folder.path, 'own'));
  expect(await thief.verify({ key })).toMatchObject({ valid: false, secretVerified: false });
  expect(await thief.tokens.verify({ token: exchange.token.token })).toMatchObject({
    valid: false,
    secretVerified: false,
  });
  keepSecret((await thief.keys.create({ userId: 'user-1', name: 'the thief’s own' })).key);
  await thief.close();
});

test('no nonce is used twice, not even by two copies of one machine', async () => {
  using folder = scratchFolder();
  await using engine = await openEngine();
  for (let at = 0; at < 100; at += 1) await engine.create({ name: 'the same', metadata: { the: 'same' } });
  await engine.auth.close();
  const copies = [stolenFrom(engine, folder.path, []), stolenFrom(engine, folder.path, [])];
  const found = await Promise.all(
    copies.map(async (dataDir) => {
      await using clone = await openEngine({ dataDir, testClock: new TestClock() });
      for (let at = 0; at < 250; at += 1) await clone.create({ name: 'the same', metadata: { the: 'same' } });
      return sealedValues(join(dataDir, 'pantheon-auth.db'));
    }),
  );
  const common = new Set(sealedValues(engine.databaseFile).map(nonceOf));
  const all = found.flat().map(nonceOf);
  expect(all.length).toBeGreaterThan(2_000);
  const made = all.filter((nonce) => !common.has(nonce));
  expect(new Set(made).size).toBe(made.length);
  // The same words give other bytes each time.
  const bodies = found.flat().map((sealed) => sealed.subarray(29, 61).toString('hex'));
  expect(new Set(bodies).size).toBeGreaterThanOrEqual(made.length);
});

/** `1 ‖ data key id ‖ IV ‖ …`: the nonce and the key it is used with. */
function nonceOf(sealed: Buffer): string {
  return sealed.subarray(1, 29).toString('hex');
}

function sealedValues(file: string): readonly Buffer[] {
  return bySql(file, (db) =>
    ['api_keys', 'api_key_versions', 'event_details', 'signing_keys'].flatMap((table) =>
      db
        .prepare(`select sealed from ${table}`)
        .all()
        .map((row) => Buffer.from(row['sealed'] as Uint8Array)),
    ),
  );
}

test('a file that others may read is closed to them, and what is not a plain file is refused', async () => {
  using folder = scratchFolder();
  await using engine = await openEngine();
  await engine.auth.close();
  const warnings: string[] = [];
  const logger = { warn: (_fields: object, message: string) => warnings.push(message), error: () => undefined };
  const open = (options: object) =>
    createPantheonAuth({ dataDir: engine.dataDir, issuer: ISSUER, clock: engine.clock, logger, ...options });
  chmodSync(engine.databaseFile, 0o644);
  chmodSync(join(engine.dataDir, 'master.key'), 0o644);
  await (await open({})).close();
  expect(statSync(engine.databaseFile).mode & 0o777).toBe(0o600);
  expect(warnings.length).toBe(2);

  // From a folder of its own: beside the file of the master key, a missing database is refused for that first.
  const own = { dataDir: join(folder.path, 'own'), masterKey: randomBytes(32).toString('hex') };
  const refused = async (databaseFile: string) =>
    expect(open({ ...own, databaseFile }), databaseFile).rejects.toMatchObject({ code: 'store_unusable' });
  const linked = join(folder.path, 'linked.db');
  symlinkSync(engine.databaseFile, linked);
  await refused(linked);
  const dangling = join(folder.path, 'dangling.db');
  symlinkSync(join(folder.path, 'nowhere.db'), dangling);
  await refused(dangling);
  for (const companion of ['-wal', '-shm', '-journal']) {
    const file = join(folder.path, `beside${companion}.db`);
    writeFileSync(file, '');
    symlinkSync(join(folder.path, 'target'), file + companion);
    await refused(file);
  }
  await refused(folder.path);
  const text = join(folder.path, 'text.db');
  writeFileSync(text, 'this is no database, but somebody’s notes\n'.repeat(100));
  await refused(text);
  expect(readFileSync(text, 'utf8')).toContain('notes');

  for (const path of ['../x.db', '/etc/x.db', 'a/../../x.db', '..', '.', '', 'x\0.db', '//tmp/x.db', '///etc/x.db']) {
    expect(() => loadConfig({ DATABASE_URL: `sqlite:${path}`, DATA_DIR: folder.path }, {}, folder.path), path).toThrow(
      /invalid_setting/,
    );
  }
});

test('a name in a header is not recorded as the actor', async () => {
  await using service = await openService();
  const spoof = [
    'x-user',
    'x-actor',
    'x-user-id',
    'x-key-id',
    'x-forwarded-user',
    'x-remote-user',
    'actor',
    'x-forwarded-for',
    'x-real-ip',
    'forwarded',
    'x-request-id',
    'request-id',
  ];
  const headers = Object.fromEntries(spoof.map((name) => [name, 'spoofed-9']));
  const { apiKey } = await service.engine.create();
  const answer = await service.call({
    method: 'POST',
    url: `/v1/keys/${apiKey.id}/suspend`,
    by: service.root,
    headers,
    payload: {},
  });
  expect(answer.status).toBe(200);
  const events = await service.call({ method: 'GET', url: '/v1/events?type=key.suspended', by: service.root });
  expect(events.text).not.toContain('spoofed-9');
  const [event] = events.json()['items'] as { actor: object }[];
  expect(event?.actor).toMatchObject({ keyId: parseKey(service.root)?.id, userId: 'root', address: '127.0.0.1' });
});

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
