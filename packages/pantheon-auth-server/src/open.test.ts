/** The first administrator's key: made once, in a file of its owner alone, and never over something else. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { type Config, loadConfig } from './config.ts';
import { openService, rootKeyStore } from './open.ts';

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

test('the first start makes the key, the next one finds it', async () => {
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

test('a start that was cut off is finished with the key that it wrote', async () => {
  const config = scratch();
  const other = scratch();
  const elsewhere = await openService(other, SILENT);
  await elsewhere.close();
  const written = readFileSync(other.rootKeyFile, 'latin1');
  writeFileSync(config.rootKeyFile, written);
  const service = await openService(config, SILENT);
  expect(service.rootKey).toBe('created');
  expect(await service.auth.verify({ key: written.trim(), tenant: 'system' })).toMatchObject({ valid: true });
  await service.close();
});

test('a file that holds something else is left as it is, and stops the start', async () => {
  const config = scratch();
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

test('a folder that is not there, or is no place for a file, is named', () => {
  const { dataDir } = scratch();
  const nowhere = rootKeyStore(join(dataDir, 'no/such/root.key'));
  expect(nowhere.read()).toBeNull();
  expect(() => nowhere.write('x')).toThrow(/ROOT_KEY_FILE.*cannot be made/);
  expect(() => rootKeyStore(dataDir).read()).toThrow(/something else/);
  writeFileSync(join(dataDir, 'file'), '');
  expect(() => rootKeyStore(join(dataDir, 'file/root.key')).read()).toThrow(/cannot be read/);
});
