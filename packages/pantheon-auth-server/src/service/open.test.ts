/** The first administrator's key: made once, in a file of its owner alone, and never over something else. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { type Config, loadConfig } from '../settings/config.ts';
import { openEngine, openService, rootKeyStore } from './open.ts';

const SILENT = { warn: () => {}, error: () => {} };
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function scratch(): Config {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-open-'));
  folders.push(folder);
  return loadConfig({ DATA_DIR: folder }, {}, folder).config;
}

test('the first start creates the root key, the next one finds it', async () => {
  const config = scratch();
  const first = await openService(config, SILENT);
  expect(first.rootKey).toBe('created');
  const key = readFileSync(config.rootKeyFile, 'latin1');
  expect(key).toMatch(/^pan_live_[0-9A-Za-z]+\n$/);
  expect(statSync(config.rootKeyFile).mode & 0o777).toBe(0o600);
  expect(await first.auth.verify({ key: key.trim(), tenant: 'system' })).toMatchObject({ valid: true });
  await first.close();
  const second = await openService(config, SILENT);
  expect(second.rootKey).toBe('existing');
  await second.close();
  expect(readFileSync(config.rootKeyFile, 'latin1')).toBe(key);
});

/** What a first start leaves behind that was cut off before it made the root key. */
async function begun(): Promise<Config> {
  const config = scratch();
  await (await openEngine(config, SILENT, 'node')).close();
  return config;
}

test('a new database beside a root key or a master key stops the start, and nothing is created', async () => {
  const old = scratch();
  await (await openService(old, SILENT)).close();
  for (const name of ['root.key', 'master.key']) {
    for (const leftover of [[], ['pantheon-auth.db']]) {
      const config = scratch();
      writeFileSync(join(config.dataDir, name), readFileSync(join(old.dataDir, name)));
      for (const empty of leftover) writeFileSync(join(config.dataDir, empty), '');
      const there = readdirSync(config.dataDir);
      const error = await openService(config, SILENT).catch((refused: unknown) => refused);
      expect(error).toMatchObject({ code: 'database_missing' });
      expect(String(error)).toContain(join(config.dataDir, name));
      expect(String(error)).toContain('move ');
      expect(readdirSync(config.dataDir)).toEqual(there);
      // What it says helps.
      rmSync(join(config.dataDir, name));
      const service = await openService(config, SILENT);
      expect(service.rootKey).toBe('created');
      await service.close();
    }
  }
});

test('a key of another store does not become the root key of this one, even after an interrupted first start', async () => {
  const old = scratch();
  await (await openService(old, SILENT)).close();
  const config = await begun();
  writeFileSync(config.rootKeyFile, readFileSync(old.rootKeyFile));
  const strange = { code: 'invalid_setting', field: 'ROOT_KEY_FILE' };
  await expect(openService(config, SILENT)).rejects.toMatchObject(strange);
  await expect(openService(config, SILENT)).rejects.toMatchObject(strange);
  rmSync(config.rootKeyFile);
  await (await openService(config, SILENT)).close();
  expect(readFileSync(config.rootKeyFile, 'latin1')).not.toBe(readFileSync(old.rootKeyFile, 'latin1'));
});

test('a master key from another place may be used for a new store', async () => {
  const old = scratch();
  await (await openService(old, SILENT)).close();
  const { dataDir } = scratch();
  const settings = { DATA_DIR: dataDir, MASTER_KEY_FILE: join(old.dataDir, 'master.key') };
  const service = await openService(loadConfig(settings, {}, dataDir).config, SILENT);
  expect(service.rootKey).toBe('created');
  await service.close();
});

test('a file with other content is not changed, and stops the start', async () => {
  const config = await begun();
  writeFileSync(config.rootKeyFile, 'my shopping list');
  await expect(openService(config, SILENT)).rejects.toMatchObject({ code: 'invalid_setting', field: 'ROOT_KEY_FILE' });
  expect(readFileSync(config.rootKeyFile, 'utf8')).toBe('my shopping list');
  writeFileSync(config.rootKeyFile, 'x'.repeat(5_000));
  await expect(openService(config, SILENT)).rejects.toMatchObject({ code: 'invalid_setting' });
  // Nothing was made meanwhile, so the next start can still make it.
  rmSync(config.rootKeyFile);
  const service = await openService(config, SILENT);
  expect(service.rootKey).toBe('created');
  await service.close();
});

test('a missing folder, and a path that cannot hold a file, are named in the error', async () => {
  const { dataDir } = scratch();
  const nowhere = rootKeyStore(join(dataDir, 'no/such/root.key'));
  expect(nowhere.read()).toBeNull();
  await expect(nowhere.write('x')).rejects.toThrow(/ROOT_KEY_FILE.*cannot be created/);
  expect(() => rootKeyStore(dataDir).read()).toThrow(/is not a root key file/);
  writeFileSync(join(dataDir, 'file'), '');
  expect(() => rootKeyStore(join(dataDir, 'file/root.key')).read()).toThrow(/cannot be read/);
});
