import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { startProcess } from '../test/engine-process.ts';
import { refusalOf } from '../test/refusal-of.ts';
import { emptyFolder, ISSUER, openTestEngine } from '../test/test-engine.ts';
import type { RootKeyStore } from './api-keys/root-key.ts';
import type { EmbeddedOptions } from './engine/options.ts';
import { createPantheonAuth, type PantheonAuth } from './pantheon-auth.ts';

/** A folder that goes away with the test, and instances on it that are closed before. */
async function inFolder(
  work: (start: (options?: Partial<EmbeddedOptions>) => Promise<PantheonAuth>, dataDir: string) => Promise<void>,
): Promise<void> {
  const dataDir = emptyFolder();
  const opened: PantheonAuth[] = [];
  try {
    await work(async (options = {}) => {
      const auth = await createPantheonAuth({ dataDir, issuer: ISSUER, ...options });
      opened.push(auth);
      return auth;
    }, dataDir);
  } finally {
    for (const auth of opened) await auth.close();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** A file of the root key, as the service keeps it: exclusive, and it complains about what is there. */
function rootStore(path: string): RootKeyStore {
  return {
    read: () => (existsSync(path) ? readFileSync(path, 'utf8') : null),
    write: (key) => writeFileSync(path, `${key}\n`, { flag: 'wx' }),
  };
}

describe('starting', () => {
  test('an empty folder gets a database and a master key with mode 0600; the next start finds its data', async () => {
    await inFolder(async (start, dataDir) => {
      const first = await start({ dataDir: join(dataDir, 'made', 'here') });
      const { key, apiKey } = await first.keys.create({ userId: 'u', name: 'n' });
      const exchange = await first.tokens.exchange({ key });
      await first.close();
      const folder = join(dataDir, 'made', 'here');
      expect(readdirSync(folder).toSorted()).toEqual(['master.key', 'pantheon-auth.db', 'pantheon-auth.db-reserve']);
      for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o077).toBe(0);
      const second = await start({ dataDir: folder });
      expect(await second.verify({ key })).toMatchObject({ valid: true, key: { keyId: apiKey.id } });
      expect(exchange.issued && (await second.tokens.verify({ token: exchange.token.token }))).toMatchObject({
        valid: true,
      });
    });
  });

  test('another master key, or none, stops the start with one code and changes nothing', async () => {
    await using engine = await openTestEngine();
    await engine.auth.close();
    const { dataDir, clock } = engine;
    const path = join(dataDir, 'master.key');
    const right = readFileSync(path, 'latin1').trim();
    const start = (options: object) => createPantheonAuth({ dataDir, issuer: ISSUER, clock, ...options });
    expect((await refusalOf(start({ masterKey: randomBytes(32).toString('hex') }))).code).toBe('master_key_mismatch');
    expect(await refusalOf(start({ masterKey: right, masterKeyFile: path }))).toMatchObject({
      code: 'invalid_setting',
      field: 'masterKey',
    });
    expect((await refusalOf(start({ masterKey: 'short' }))).code).toBe('invalid_setting');
    expect((await refusalOf(start({ masterKeyFile: join(dataDir, 'absent') }))).code).toBe('master_key_missing');
    rmSync(path);
    expect((await refusalOf(start({}))).code).toBe('master_key_missing');
    expect(existsSync(path)).toBe(false);
    const logged: string[] = [];
    const log = (_fields: object, message: string): void => void logged.push(message);
    const auth = await start({ masterKey: right, logger: { warn: log, error: log } });
    await auth.close();
    expect(logged.join()).toContain('environment');
    expect(logged.join()).not.toContain(right);
  });

  test.each([
    [{ issuer: '' }, 'issuer'],
    [{ issuer: undefined as never }, 'issuer'],
    [{ issuer: 'auth.example.com' }, 'issuer'],
    [{ issuer: 'https://auth.example.com/' }, 'issuer'],
    [{ issuer: 'ftp://auth.example.com' }, 'issuer'],
    [{ issuer: ' https://auth.example.com' }, 'issuer'],
    [{ audience: ['api', 'api\r'] }, 'audience'],
    [{ audience: 'api' as never }, 'audience'],
    [{ dataDir: '"/data"' }, 'dataDir'],
    [{ dataDir: '~/data' }, 'dataDir'],
    [{ dataDir: '' }, 'dataDir'],
    [{ dataDir: undefined as never }, 'dataDir'],
    [{ databaseFile: '/data/x.db\n' }, 'databaseFile'],
    [{ masterKeyFile: '\ufeff/data/m.key' }, 'masterKeyFile'],
    [{ knownKeysMax: Number.NaN }, 'knownKeysMax'],
    [{ knownKeysMax: 0 }, 'knownKeysMax'],
    [{ knownKeysMax: Number.POSITIVE_INFINITY }, 'knownKeysMax'],
    [{ keyPrefix: 'Pan' }, 'keyPrefix'],
    [{ keyPrefix: 'x' }, 'keyPrefix'],
  ])('an invalid setting stops the start, and the error names it: %j', async (options, field) => {
    const dataDir = emptyFolder();
    expect(await refusalOf(createPantheonAuth({ dataDir, issuer: ISSUER, ...options }))).toMatchObject({
      code: 'invalid_setting',
      field,
    });
    expect(readdirSync(dataDir)).toEqual([]);
    rmSync(dataDir, { recursive: true });
  });

  test('a folder that cannot be created is named in the error', async () => {
    const dataDir = emptyFolder();
    writeFileSync(join(dataDir, 'file'), '');
    expect(await refusalOf(createPantheonAuth({ dataDir: join(dataDir, 'file', 'x'), issuer: ISSUER }))).toMatchObject({
      code: 'store_unusable',
      field: 'dataDir',
    });
    rmSync(dataDir, { recursive: true });
  });

  test('two processes that start at once on an empty folder agree on one master key and one root key', async () => {
    await inFolder(async (start, dataDir) => {
      const source = `
        const { existsSync, readFileSync, writeFileSync } = await import('node:fs');
        const path = dataDir + '/root.key';
        const root = await auth.bootstrap({
          read: () => (existsSync(path) ? readFileSync(path, 'utf8') : null),
          write: (key) => writeFileSync(path, key, { flag: 'wx' }),
        });
        const { key } = await auth.keys.create({ userId: 'u', name: 'n' });
        console.log(JSON.stringify({ key, made: root !== null }));
        await auth.close();
      `;
      const outputs = await Promise.all(
        [startProcess(dataDir, source), startProcess(dataDir, source)].map(async (child) => {
          let text = '';
          let errors = '';
          child.stdout.on('data', (data) => {
            text += String(data);
          });
          child.stderr.on('data', (data) => {
            errors += String(data);
          });
          await new Promise((resolve) => child.once('close', resolve));
          expect(errors).toBe('');
          return JSON.parse(text) as { key: string; made: boolean };
        }),
      );
      expect(outputs.filter(({ made }) => made)).toHaveLength(1);
      const auth = await start();
      for (const { key } of outputs) expect(await auth.verify({ key })).toMatchObject({ valid: true });
      const administrators = (await auth.tenant('system').keys.list()).items;
      expect(administrators).toHaveLength(1);
      const root = readFileSync(join(dataDir, 'root.key'), 'utf8');
      expect(await auth.verify({ key: root, tenant: 'system' })).toMatchObject({
        key: { keyId: administrators[0]?.id },
      });
    });
  }, 60_000);
});

describe('the first administrator', () => {
  test('is created once, with the string that is kept elsewhere, and an interrupted start is continued', async () => {
    await using engine = await openTestEngine();
    const store = rootStore(join(engine.dataDir, 'root.key'));
    const cutOff: RootKeyStore = {
      read: store.read,
      write: async (key) => {
        await store.write(key);
        throw new Error('cut off');
      },
    };
    // Cut off after the string was written: what was written is used.
    const root = await engine.auth.bootstrap(cutOff);
    expect(root).toMatchObject({ tenantId: 'system', permissions: ['pantheon:*'], grantable: ['*'] });
    expect(await engine.auth.bootstrap(store)).toBeNull();
    const key = (store.read() ?? '').trim();
    expect(await engine.auth.verify({ key, tenant: 'system', permissions: ['pantheon:keys:create'] })).toMatchObject({
      valid: true,
    });
    // Also when it is revoked: a lost administrator is recovered on purpose only.
    await engine.auth.tenant('system').keys.revoke(root?.id ?? '', { force: true });
    expect(await engine.auth.bootstrap(store)).toBeNull();
  });

  test('is not created if its string cannot be kept', async () => {
    await using engine = await openTestEngine();
    const full = new Error('disk full');
    const write = (): void => {
      throw full;
    };
    await expect(engine.auth.bootstrap({ read: () => null, write })).rejects.toBe(full);
    expect((await engine.auth.tenant('system').keys.list()).items).toEqual([]);
    await expect(engine.auth.bootstrap({ read: () => 'something else', write })).rejects.toBe(full);
  });

  test('is created by one of two instances that do so at once', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const store = rootStore(join(engine.dataDir, 'root.key'));
    const made = await Promise.all([engine.auth.bootstrap(store), other.bootstrap(store)]);
    expect(made.filter((root) => root !== null)).toHaveLength(1);
    expect((await engine.auth.tenant('system').keys.list()).items).toHaveLength(1);
  });
});

describe('stopping', () => {
  test('stores counted usage, may be called twice, and refuses later calls with a code', async () => {
    await using engine = await openTestEngine();
    const { key, apiKey } = await engine.auth.keys.create({ userId: 'u', name: 'n' });
    for (let n = 0; n < 7; n += 1) await engine.auth.verify({ key });
    await engine.auth.close();
    await engine.auth.close();
    engine.clock.advance(10);
    for (const late of [engine.auth.verify({ key }), engine.auth.keys.get(apiKey.id), engine.auth.ping()])
      expect((await refusalOf(late)).code).toBe('shutting_down');
    expect(await (await engine.openAgain()).keys.get(apiKey.id)).toMatchObject({ usageCount: 7 });
  });
});

test('an engine with another prefix creates and accepts only keys with that prefix', async () => {
  await using engine = await openTestEngine({ keyPrefix: 'acme' });
  const { key } = await engine.auth.keys.create({ userId: 'u', name: 'n' });
  expect(key).toMatch(/^acme_live_/);
  expect(await engine.auth.verify({ key })).toMatchObject({ valid: true });
  expect(engine.auth.generator.generateKey().key).toMatch(/^acme_/);
  const standard = await engine.openAgain({ keyPrefix: 'pan' });
  expect(await standard.verify({ key })).toMatchObject({ denial: { code: 'malformed' } });
});

test('an engine with a small cache answers for every key', async () => {
  await using engine = await openTestEngine({ knownKeysMax: 2 });
  const keys: string[] = [];
  for (let n = 0; n < 5; n += 1) keys.push((await engine.auth.keys.create({ userId: 'u', name: 'n' })).key);
  for (const key of [...keys, ...keys]) expect(await engine.auth.verify({ key })).toMatchObject({ valid: true });
});
