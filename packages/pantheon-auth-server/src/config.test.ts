/** Settings are read exactly, and what is wrong with one stops the start with its name. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PantheonError } from 'pantheon-auth';
import { describe, expect, test } from 'vitest';
import { type Flags, loadConfig, type SettingName } from './config.ts';
import { editDistance } from './mistyped-settings.ts';

const load = (flags: Flags = {}, environment: Record<string, string> = {}) => loadConfig(flags, environment, '/srv');

function failure(run: () => unknown): PantheonError {
  try {
    run();
  } catch (error) {
    if (error instanceof PantheonError) return error;
  }
  throw new Error('It did not fail as it should.');
}

describe('without any setting', () => {
  test('it listens on the machine itself, with its data beside it', () => {
    expect(load().config).toEqual({
      port: 8787,
      host: '127.0.0.1',
      dataDir: '/srv/data',
      databaseFile: '/srv/data/pantheon-auth.db',
      publicUrl: 'http://localhost:8787',
      audience: [],
      rootKeyFile: '/srv/data/root.key',
      metricsPort: null,
      trustedProxies: [],
      logLevel: 'info',
      docs: true,
    });
  });

  test('the data lie at the root of the repository, wherever in it the service is started', () => {
    const root = mkdtempSync(join(tmpdir(), 'pantheon-auth-repository-'));
    const folder = join(root, 'packages/pantheon-auth-server');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{}');
    expect(loadConfig({}, {}, folder).config.dataDir).toBe(join(root, 'data'));
  });
});

describe('settings', () => {
  test('come from the environment, and a flag wins', () => {
    const environment = { PANTHEON_AUTH_PORT: '1', PANTHEON_AUTH_HOST: 'localhost', OTHER: 'x' };
    expect(load({ PORT: '2' }, environment).config).toMatchObject({ port: 2, host: 'localhost' });
  });

  test('are read in all their forms', () => {
    const { config } = load({
      DATA_DIR: 'd',
      DATABASE_URL: 'sqlite:sub/x.db',
      PUBLIC_URL: 'https://auth.example.com/base',
      HOST: '0.0.0.0',
      AUDIENCE: 'https://a.example, b',
      MASTER_KEY_FILE: '../m.key',
      ROOT_KEY_FILE: '/run/root.key',
      METRICS_PORT: '9090',
      TRUSTED_PROXIES: '10.0.0.0/8, ::1',
      LOG_LEVEL: 'warn',
      DOCS: 'off',
    });
    expect(config).toMatchObject({
      dataDir: '/srv/d',
      databaseFile: '/srv/d/sub/x.db',
      publicUrl: 'https://auth.example.com/base',
      audience: ['https://a.example', 'b'],
      masterKeyFile: '/m.key',
      rootKeyFile: '/run/root.key',
      metricsPort: 9090,
      trustedProxies: ['10.0.0.0/8', '::1'],
      logLevel: 'warn',
      docs: false,
    });
    expect(load({ MASTER_KEY: 'k' }).config.masterKey).toBe('k');
    expect(load({ DATABASE_URL: 'sqlite:///srv/data/y.db' }).config.databaseFile).toBe('/srv/data/y.db');
  });

  test.each<[SettingName, string]>([
    ['PORT', 'x'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '80.5'],
    ['PORT', ''],
    ['PORT', 'tcp://10.0.0.1:8787'],
    ['PORT', '0'],
    ['HOST', '0.0.0.0'],
    ['HOST', 'auth.internal'],
    ['DATABASE_URL', 'postgres://u:hunter2@h/d'],
    ['DATABASE_URL', 'mysql://h/d'],
    ['DATABASE_URL', 'sqlite:../x.db'],
    ['DATABASE_URL', 'sqlite:/etc/x.db'],
    ['DATABASE_URL', 'sqlite:.'],
    ['REDIS_URL', 'redis://h'],
    ['PUBLIC_URL', 'localhost'],
    ['PUBLIC_URL', 'ftp://a.example'],
    ['PUBLIC_URL', 'https://a.example/'],
    ['PUBLIC_URL', 'https://a.example?x'],
    ['PUBLIC_URL', 'https://u:p@a.example'],
    ['PUBLIC_URL', 'https://A.example'],
    ['PUBLIC_URL', 'https://a.example:443'],
    ['AUDIENCE', 'a b'],
    ['AUDIENCE', 'a,,b'],
    ['MASTER_KEY', ''],
    ['METRICS_PORT', 'on'],
    ['TRUSTED_PROXIES', '0.0.0.0/0'],
    ['TRUSTED_PROXIES', '10.0.0.0/33'],
    ['TRUSTED_PROXIES', 'loopback'],
    ['TRUSTED_PROXIES', '10.0.0.0/8/8'],
    ['TRUSTED_PROXIES', '127.1'],
    ['LOG_LEVEL', 'INFO'],
    ['DOCS', '1'],
  ])('%s=%j stops the start, and the value is not repeated', (name, value) => {
    const error = failure(() => load({ [name]: value }));
    expect(error.code).toBe('invalid_setting');
    expect(error.field).toBe(name === 'HOST' || (name === 'PORT' && value === '0') ? 'PUBLIC_URL' : name);
    if (value.length > 4) expect(error.message).not.toContain(value);
  });

  test('two master keys, and a plain public address beyond the machine, are refused', () => {
    expect(failure(() => load({ MASTER_KEY: 'a', MASTER_KEY_FILE: 'b' })).field).toBe('MASTER_KEY');
    expect(failure(() => load({ HOST: '0.0.0.0', PUBLIC_URL: 'http://a.example' })).field).toBe('PUBLIC_URL');
    expect(load({ PUBLIC_URL: 'http://a.example' }).config.publicUrl).toBe('http://a.example');
  });
});

describe('names', () => {
  test.each([
    ['PANTHEON_AUTH_PROT', 'PORT'],
    ['PANTHEON_AUTH_DATADIR', 'DATA_DIR'],
    ['PANTHEON_AUTH_MASTERKEY', 'MASTER_KEY'],
    ['PANTHEON_AUTH_TRUSTED_PROXYS', 'TRUSTED_PROXIES'],
    ['pantheon_auth_port', 'PORT'],
  ])('%s stops the start: %s was meant', (name, meant) => {
    const error = failure(() => load({}, { [name]: 'x' }));
    expect(error).toMatchObject({ code: 'invalid_setting', field: meant });
    expect(error.message).toContain(name);
  });

  test('what an orchestrator puts there is told and does not stop it', () => {
    const names = ['PANTHEON_AUTH_PORT_8787_TCP', 'PANTHEON_AUTH_SERVICE_HOST', 'PANTHEON_AUTH_TEST_POSTGRES_URL'];
    expect(load({}, Object.fromEntries(names.map((name) => [name, 'x']))).unknown).toEqual(names);
  });

  test.each([
    ['', '', 0],
    ['', 'abc', 3],
    ['port', 'prot', 1],
    ['port', 'ports', 1],
    ['kitten', 'sitting', 3],
    ['ca', 'abc', 3],
  ])('from %j to %j it is %d', (one, other, distance) => {
    expect(editDistance(one, other)).toBe(distance);
    expect(editDistance(other, one)).toBe(distance);
  });
});
