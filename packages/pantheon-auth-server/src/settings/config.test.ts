/** Settings are read exactly, and what is wrong with one stops the start with its name. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { PantheonError } from 'pantheon-auth';
import { describe, expect, test } from 'vitest';
import { type Flags, loadConfig, type SettingName } from './config.ts';
import { editDistance } from './mistyped-settings.ts';
import { holdsPassword } from './store-settings.ts';

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
  test('it listens on the local machine, with its data beside it', () => {
    expect(load().config).toEqual({
      port: 8787,
      host: '127.0.0.1',
      dataDir: '/srv/data',
      database: { kind: 'sqlite', file: '/srv/data/pantheon-auth.db' },
      limits: { kind: 'alone' },
      bounds: {},
      publicUrl: 'http://localhost:8787',
      audience: [],
      rootKeyFile: '/srv/data/root.key',
      metricsPort: null,
      metricsHost: '127.0.0.1',
      trustedProxies: [],
      isInsecure: false,
      logLevel: 'info',
      docs: true,
    });
  });

  test('the data folder is at the root of the repository, wherever in it the service is started', () => {
    const root = mkdtempSync(join(tmpdir(), 'pantheon-auth-repository-'));
    const folder = join(root, 'packages/pantheon-auth-server');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{}');
    expect(loadConfig({}, {}, folder).config.dataDir).toBe(join(root, 'data'));
  });
});

describe('settings', () => {
  test('come from the environment, and a flag takes precedence', () => {
    const environment = { PANTHEON_AUTH_PORT: '1', PANTHEON_AUTH_HOST: 'localhost', OTHER: 'x' };
    expect(load({ PORT: '2' }, environment).config).toMatchObject({ port: 2, host: 'localhost' });
  });

  test('are parsed in all their forms', () => {
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
      database: { kind: 'sqlite', file: '/srv/d/sub/x.db' },
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
    expect(load({ DATABASE_URL: 'sqlite:///srv/data/y.db' }).config.database).toEqual({
      kind: 'sqlite',
      file: '/srv/data/y.db',
    });
  });

  test.each<[SettingName, string]>([
    ['PORT', 'x'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '80.5'],
    ['PORT', ''],
    ['PORT', 'tcp://10.0.0.1:8787'],
    ['PORT', '1e3'],
    ['PORT', '08787'],
    ['PORT', ' 8787'],
    ['PORT', '0x10'],
    ['PORT', '8787\r'],
    ['PORT', '\u0668\u0667'],
    ['HOST', '[::1]'],
    ['HOST', 'http://0.0.0.0'],
    ['HOST', '0.0.0.0:8787'],
    ['HOST', '*'],
    ['HOST', '127.1'],
    ['HOST', '2130706433'],
    ['HOST', '127.0.0.1 '],
    ['HOST', '"127.0.0.1"'],
    ['HOST', 'a b'],
    ['HOST', 'a..b'],
    ['METRICS_HOST', '[::1]'],
    ['METRICS_HOST', '0.0.0.0:9090'],
    ['DATA_DIR', '"/data"'],
    ['DATA_DIR', "'/data'"],
    ['DATA_DIR', '/data"'],
    ['DATA_DIR', ' /data'],
    ['DATA_DIR', '/data '],
    ['DATA_DIR', '/data\r'],
    ['DATA_DIR', '/da\u0000ta'],
    ['DATA_DIR', '\ufeff/data'],
    ['DATA_DIR', '/data\u200b'],
    ['DATA_DIR', '~/data'],
    ['DATA_DIR', '$HOME/data'],
    ['DATA_DIR', '/srv/$'.concat('{DATA}')],
    ['DATA_DIR', '\t'],
    ['MASTER_KEY_FILE', '~/master.key'],
    ['MASTER_KEY_FILE', '"/run/master.key"'],
    ['MASTER_KEY', '\ufeffabcdef'],
    ['ROOT_KEY_FILE', '~root/root.key'],
    ['ROOT_KEY_FILE', '/run/root.key\n'],
    ['DATABASE_URL', 'sqlite:~/x.db'],
    ['DATABASE_URL', '"postgres://u:hunter2@h/d"'],
    ['DATABASE_URL', 'postgres://u:hunter2@h/d\r'],
    ['REDIS_URL', "'redis://u:hunter2@h'"],
    ['PUBLIC_URL', '"https://a.example"'],
    ['PUBLIC_URL', 'https://a.example '],
    ['AUDIENCE', '"a"'],
    ['AUDIENCE', 'a,"b",c'],
    ['ALLOW_INSECURE_HTTP', 'yes'],
    ['ALLOW_INSECURE_HTTP', 'On'],
    ['LOG_LEVEL', 'info '],
    ['DOCS', "'on'"],
    ['DATABASE_URL', 'postgres:u:hunter2@h/d'],
    ['DATABASE_URL', 'postgres://u:hunt#er2@h/d'],
    ['DATABASE_URL', 'postgres://u:12/er2@h/d'],
    ['DATABASE_URL', 'postgres://u:12?er2@h/d'],
    ['DATABASE_URL', 'postgres://u:hunter%zz@h/d'],
    ['DATABASE_URL', 'postgres://u:hunter2@h/d e'],
    ['DATABASE_URL', 'postgres://u:hunter2@h/d?schema=auth'],
    ['DATABASE_URL', 'postgres://u:hunter2@h1,h2/d'],
    ['DATABASE_SCHEMA', 'Auth Schema'],
    ['DATABASE_URL', 'mysql://h/d'],
    ['DATABASE_URL', 'sqlite:../x.db'],
    ['DATABASE_URL', 'sqlite:/etc/x.db'],
    ['DATABASE_URL', 'sqlite:.'],
    ['REDIS_URL', 'http://u:hunter2@h'],
    ['REDIS_URL', 'redis:///9'],
    ['REDIS_URL', 'redis://u:hunter2@h/x'],
    ['REDIS_URL', 'redis://u:hunt#er2@h'],
    ['REDIS_URL', 'redis://u:hunter%zz@h'],
    ['REDIS_URL', 'redis://a,redis://u:hunter2@h?x'],
    ['REDIS_URL', Array.from({ length: 33 }, () => 'redis://h').join()],
    ['LIMITS', 'memory'],
    ['LIMITS', 'redis'],
    ['ON_LIMITER_OUTAGE', 'deny'],
    ['POSTGRES_POOL_MAX', '20'],
    ['SELF_ROTATIONS_PER_HOUR', '0'],
    ['KEYS_PER_TENANT_MAX', '0'],
    ['SIGNING_KEY_ROTATION', '1h'],
    ['SIGNING_KEY_ROTATION', 'never'],
    ['EXPIRY_NOTICES', 'soon'],
    ['EXPIRY_NOTICES', '7d, 1d'],
    ['EXPIRY_NOTICES', '0s'],
    ['EXPIRY_NOTICES', Array(9).fill('1d').join(',')],
    ['CACHE_MB', '3'],
    ['CACHE_MB', 'all'],
    ['SELF_ROTATIONS_PER_HOUR', '3601'],
    ['SELF_ROTATIONS_PER_HOUR', 'Infinity'],
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
  ])('%s=%j stops the start, and the error does not repeat the value', (name, value) => {
    const error = failure(() => load({ [name]: value }));
    expect(error.code).toBe('invalid_setting');
    expect(error.field).toBe(name);
    if (value.length > 4) expect(error.message).not.toContain(value);
  });

  test('two master keys, and settings that need another one, are refused', () => {
    expect(failure(() => load({ MASTER_KEY: 'a', MASTER_KEY_FILE: 'b' })).field).toBe('MASTER_KEY');
    expect(failure(() => load({ METRICS_HOST: '0.0.0.0' })).field).toBe('METRICS_HOST');
    expect(load({ METRICS_HOST: '::', METRICS_PORT: '0' }).config).toMatchObject({ metricsHost: '::', metricsPort: 0 });
  });

  test.each<Flags>([{ PORT: '0' }, { HOST: '0.0.0.0' }, { HOST: 'auth.internal' }])(
    'a public address to listen on without PUBLIC_URL is refused: %j',
    (flags) => {
      const error = failure(() => load(flags));
      expect(error).toMatchObject({ code: 'invalid_setting', field: 'PUBLIC_URL' });
      expect(error.message).toContain('required');
    },
  );

  test.each<[Flags, boolean]>([
    [{}, true],
    [{ PUBLIC_URL: 'http://localhost:9000' }, true],
    [{ HOST: '::ffff:127.0.0.1' }, true],
    [{ PUBLIC_URL: 'http://127.8.9.1:9000', HOST: '::1' }, true],
    [{ PUBLIC_URL: 'http://[::1]:9000', HOST: 'LOCALHOST' }, true],
    [{ PUBLIC_URL: 'http://a.example' }, false],
    [{ PUBLIC_URL: 'http://localhost.example' }, false],
    [{ PUBLIC_URL: 'http://192.168.0.9' }, false],
    [{ PUBLIC_URL: 'http://a.example', HOST: '0.0.0.0' }, false],
    [{ PUBLIC_URL: 'http://localhost:8787', HOST: '0.0.0.0' }, false],
    [{ PUBLIC_URL: 'http://localhost:8787', HOST: 'auth.internal' }, false],
  ])('plain http is refused beyond this machine unless it is configured: %j', (flags, staysHere) => {
    const asked = load({ ...flags, ALLOW_INSECURE_HTTP: 'on' }).config;
    expect(asked.isInsecure).toBe(!staysHere);
    if (staysHere) {
      expect(load(flags).config.publicUrl).toBe(asked.publicUrl);
      return;
    }
    for (const written of [flags, { ...flags, ALLOW_INSECURE_HTTP: 'off' }]) {
      const error = failure(() => load(written));
      expect(error).toMatchObject({ code: 'invalid_setting', field: 'PUBLIC_URL' });
      expect(error.message).toContain('ALLOW_INSECURE_HTTP=on');
    }
  });

  test('with https nothing is insecure', () => {
    const flags = { PUBLIC_URL: 'https://a.example', HOST: '0.0.0.0', ALLOW_INSECURE_HTTP: 'on' };
    expect(load(flags).config.isInsecure).toBe(false);
  });
});

describe('PostgreSQL and Redis', () => {
  const POSTGRES = 'postgres://u:hunter2@h:5432/d?sslmode=verify-full';
  const REDIS = 'redis://a:1,rediss://u:hunter2@b:2/3';

  test('are configured by URL, and what the URLs contain is printed nowhere', () => {
    const { config } = load({ DATABASE_URL: POSTGRES, REDIS_URL: REDIS });
    const { database, limits } = config;
    if (database.kind !== 'postgres' || limits.kind !== 'redis') throw new Error('They are what they were said to be.');
    expect(database.url.reveal()).toBe(POSTGRES);
    expect(limits.url.reveal()).toBe(REDIS);
    expect(limits.onOutage).toBe('local');
    expect(`${JSON.stringify(config)} ${inspect(config, { depth: 9 })}`).not.toContain('hunter2');
  });

  test('can be combined with each other and with SQLite as documented', () => {
    const pool = load({ DATABASE_URL: 'postgresql://h/d', POSTGRES_POOL_MAX: '4' }).config;
    expect(pool).toMatchObject({ database: { kind: 'postgres', poolMax: 4 }, limits: { kind: 'alone' } });
    expect(load({ DATABASE_URL: POSTGRES, LIMITS: 'local' }).config.limits).toEqual({ kind: 'local' });
    const embedded = load({ REDIS_URL: REDIS, LIMITS: 'redis', ON_LIMITER_OUTAGE: 'deny' }).config;
    expect(embedded).toMatchObject({ database: { kind: 'sqlite' }, limits: { kind: 'redis', onOutage: 'deny' } });
  });

  test.each<[Flags, SettingName]>([
    [{ LIMITS: 'redis', DATABASE_URL: POSTGRES }, 'LIMITS'],
    [{ LIMITS: 'local', REDIS_URL: REDIS }, 'LIMITS'],
    [{ ON_LIMITER_OUTAGE: 'local', LIMITS: 'local' }, 'ON_LIMITER_OUTAGE'],
    [{ ON_LIMITER_OUTAGE: 'never', REDIS_URL: REDIS }, 'ON_LIMITER_OUTAGE'],
    [{ POSTGRES_POOL_MAX: '3', DATABASE_URL: POSTGRES }, 'POSTGRES_POOL_MAX'],
    [{ POSTGRES_POOL_MAX: '501', DATABASE_URL: POSTGRES }, 'POSTGRES_POOL_MAX'],
    [{ POSTGRES_POOL_MAX: 'all', DATABASE_URL: POSTGRES }, 'POSTGRES_POOL_MAX'],
  ])('%# is a contradiction: the error names the setting and repeats no address', (flags, field) => {
    const error = failure(() => load(flags));
    expect(error).toMatchObject({ code: 'invalid_setting', field });
    expect(error.message).not.toContain('hunter2');
  });

  test.each([
    ['postgres://u:hunter2@h/d', true],
    ['postgres://h/d?password=hunter2', true],
    ['postgres://h/d?sslmode=require&sslpassword=hunter2', true],
    ['postgres://u:hunt#er2@h/d', true],
    ['redis://a,redis://:hunter2@b', true],
    ['postgres://u@h:5432/d', false],
    ['redis://a:6379,redis://u@b:6379', false],
    ['sqlite:x.db', false],
  ])('whether %j contains a password: %j', (text, expected) => {
    expect(holdsPassword(text)).toBe(expected);
  });
});

describe('names', () => {
  test.each([
    ['PANTHEON_AUTH_PROT', 'PORT'],
    ['PANTHEON_AUTH_DATADIR', 'DATA_DIR'],
    ['PANTHEON_AUTH_MASTERKEY', 'MASTER_KEY'],
    ['PANTHEON_AUTH_TRUSTED_PROXYS', 'TRUSTED_PROXIES'],
    ['pantheon_auth_port', 'PORT'],
    ['\ufeffPANTHEON_AUTH_PORT', 'PORT'],
    ['export PANTHEON_AUTH_PORT', 'PORT'],
    [' PANTHEON_AUTH_DATA_DIR', 'DATA_DIR'],
    ['PANTHEON_AUTH_DATA_DIR\u200b', 'DATA_DIR'],
  ])('%s stops the start, and the error suggests %s', (name, meant) => {
    const error = failure(() => load({}, { [name]: 'x' }));
    expect(error).toMatchObject({ code: 'invalid_setting', field: meant });
    expect(error.message).toContain(
      name.replace(/[^\x21-\x7e]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`),
    );
  });

  test('variables that an orchestrator sets are reported and do not stop it', () => {
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
  ])('the distance from %j to %j is %d', (one, other, distance) => {
    expect(editDistance(one, other)).toBe(distance);
    expect(editDistance(other, one)).toBe(distance);
  });
});
