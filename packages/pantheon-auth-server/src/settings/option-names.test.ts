/** Errors name what their reader can change: a program its options, an operator the settings. */
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PantheonError } from 'pantheon-auth';
import { expect, onTestFinished, test } from 'vitest';
import { createLogger } from '../http/logging.ts';
import { openService } from '../service/open.ts';
import { type Flags, loadConfig, SETTING_NAMES } from './config.ts';
import { ENGINE_OPTIONS, namingSettings } from './option-names.ts';

const LIBRARY = fileURLToPath(new URL('../../../pantheon-auth/src/', import.meta.url));

test('the errors of the library name no setting of the service', () => {
  const names = SETTING_NAMES.filter((name) => name.includes('_'));
  const setting = new RegExp(`(['\`"]|\\b(?:PANTHEON_AUTH_)?)(?:${names.join('|')})\\b(?!\\s*[=:,;)}\\]])`);
  const files = globSync('**/*.ts', { cwd: LIBRARY }).filter((path) => !path.endsWith('.test.ts'));
  expect(files.length).toBeGreaterThan(80);
  const told = files.flatMap((path) =>
    readFileSync(join(LIBRARY, path), 'utf8')
      .split('\n')
      .filter((line) => setting.test(line))
      .map((line) => `${path}: ${line.trim()}`),
  );
  expect(told).toEqual([]);
});

test('the service names the setting from which an option of the engine comes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'option-names-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'file');
  writeFileSync(file, 'neither a folder nor a key');
  const failure = async (flags: Flags) => {
    const { config } = loadConfig({ DATA_DIR: join(folder, 'data'), ...flags }, {}, folder);
    const opened = openService(config, createLogger('silent'));
    const error: unknown = await opened.catch((caught: unknown) => caught);
    return error instanceof PantheonError ? error.field : await opened.then((service) => service.close());
  };
  expect(await failure({ DATA_DIR: join(file, 'data') })).toBe('DATA_DIR');
  expect(await failure({ MASTER_KEY: 'short' })).toBe('MASTER_KEY');
  expect(await failure({ MASTER_KEY_FILE: file })).toBe('MASTER_KEY_FILE');
  expect(await failure({ MASTER_KEY_FILE: folder })).toBe('MASTER_KEY_FILE');
});

test('an error keeps its code, its message and its cause; one without an option stays as it is', async () => {
  const thrown = async (error: unknown) => {
    const call = () => Promise.reject(error);
    return namingSettings(ENGINE_OPTIONS, call).catch((caught: unknown) => caught);
  };
  const away = new PantheonError('store_unusable', { field: 'database.url', detail: 'No such user.' });
  expect(await thrown(away)).toMatchObject({
    code: 'store_unusable',
    field: 'DATABASE_URL',
    detail: 'No such user.',
    cause: away,
  });
  for (const error of [
    new PantheonError('store_unavailable', { retryAfterSeconds: 1 }),
    new PantheonError('invalid_request', { field: 'constructor' }),
    new Error('other'),
  ])
    expect(await thrown(error)).toBe(error);
  const alone = new PantheonError('redis_required');
  expect(await thrown(alone)).toMatchObject({ code: 'redis_required', detail: expect.stringContaining('REDIS_URL') });
});
