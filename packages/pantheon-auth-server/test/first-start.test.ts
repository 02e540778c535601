/** A first start makes a database, a master key and a root key, in this order, and can be killed between any two steps. */
import fs, { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, expect, test, vi } from 'vitest';
import { openService } from '../src/service/open.ts';
import { loadConfig } from '../src/settings/config.ts';

const SILENT = { warn: () => {}, error: () => {} };
const root = mkdtempSync(join(tmpdir(), 'pantheon-auth-first-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const configOf = (dataDir: string) => loadConfig({ DATA_DIR: dataDir }, {}, dataDir).config;

/** Starts in `dataDir`, and copies the folder after every step that lasts: what a process killed there leaves behind. */
async function startWatched(dataDir: string): Promise<readonly string[]> {
  const images: string[] = [];
  const copy = (): void => {
    const image = join(root, `killed-${images.length}`);
    cpSync(dataDir, image, { recursive: true });
    images.push(image);
  };
  const { exec } = DatabaseSync.prototype;
  const { linkSync } = fs;
  const { link } = fs.promises;
  vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function (this: DatabaseSync, sql) {
    exec.call(this, sql);
    if (sql === 'commit') copy();
  });
  vi.spyOn(fs, 'linkSync').mockImplementation((from, to) => {
    linkSync(from, to);
    copy();
  });
  vi.spyOn(fs.promises, 'link').mockImplementation(async (from, to) => {
    await link(from, to);
    copy();
  });
  syncBuiltinESMExports();
  try {
    await (await openService(configOf(dataDir), SILENT)).close();
  } finally {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  }
  return images;
}

test('a first start that was killed at any moment can be repeated, and then is like any other', async () => {
  const images = await startWatched(join(root, 'data'));
  const has = (image: string | undefined, name: string) => readdirSync(image ?? '').includes(name);
  const withMasterKey = images.filter((image) => has(image, 'master.key'));
  // Between them lie the moments in which a key is there and what it belongs to is not.
  expect(images.length - withMasterKey.length).toBeGreaterThanOrEqual(2);
  expect(withMasterKey.length).toBeGreaterThanOrEqual(6);
  expect(has(images.at(-2), 'root.key')).toBe(true);
  for (const [moment, image] of images.entries()) {
    const config = configOf(image);
    const service = await openService(config, SILENT);
    const key = readFileSync(config.rootKeyFile, 'latin1').trim();
    expect([moment, await service.auth.verify({ key, tenant: 'system' })]).toMatchObject([moment, { valid: true }]);
    await service.close();
  }
}, 120_000);
