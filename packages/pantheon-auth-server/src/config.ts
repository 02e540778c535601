/**
 * The settings of the service: where they come from, what they may be, and what is wrong when one is not valid. The only
 * file that reads the environment. Flags win over it.
 */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { PantheonError } from 'pantheon-auth';
import { findMistyped } from './mistyped-settings.ts';
import { parseAudience, parseChoice, parsePort, parsePublicUrl, parseSwitch, parseTrustedProxies } from './settings.ts';
import { type DatabaseSetting, databaseOf, type LimitsSetting, limitsOf } from './store-settings.ts';

/** Every setting: `PANTHEON_AUTH_<name>` in the environment, a flag of the same name on the command line. */
export const SETTING_NAMES = [
  'PORT',
  'HOST',
  'DATA_DIR',
  'DATABASE_URL',
  'DATABASE_SCHEMA',
  'POSTGRES_POOL_MAX',
  'REDIS_URL',
  'LIMITS',
  'ON_LIMITER_OUTAGE',
  'PUBLIC_URL',
  'AUDIENCE',
  'MASTER_KEY',
  'MASTER_KEY_FILE',
  'ROOT_KEY_FILE',
  'METRICS_PORT',
  'TRUSTED_PROXIES',
  'LOG_LEVEL',
  'DOCS',
] as const;

export type SettingName = (typeof SETTING_NAMES)[number];

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Settings that were checked. */
export interface Config {
  /** 0: any free one. */
  readonly port: number;
  readonly host: string;
  readonly dataDir: string;
  readonly database: DatabaseSetting;
  readonly limits: LimitsSetting;
  /** `iss` of tokens and the base of every link. Never taken from a request. */
  readonly publicUrl: string;
  /** Empty: the public URL. */
  readonly audience: readonly string[];
  /** Secret. */
  readonly masterKey?: string;
  /** As it was named. Else it is `master.key` in the data folder. */
  readonly masterKeyFile?: string;
  readonly rootKeyFile: string;
  /** Null: no metrics. */
  readonly metricsPort: number | null;
  /** Addresses and CIDR ranges whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: readonly string[];
  readonly logLevel: LogLevel;
  /** Whether `/docs` and `/openapi.json` are served. */
  readonly docs: boolean;
}

/** What a proxy puts before our addresses: the path of the public URL, empty when it has none. */
export function pathOf({ publicUrl }: Pick<Config, 'publicUrl'>): string {
  const { pathname } = new URL(publicUrl);
  return pathname === '/' ? '' : pathname;
}

export type Flags = Partial<Record<SettingName, string>>;
export type Environment = Readonly<Record<string, string | undefined>>;

const PREFIX = 'PANTHEON_AUTH_';
const PORT_DEFAULT = 8787;
const HOST_DEFAULT = '127.0.0.1';
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/;

/**
 * Reads the settings. `unknown` names variables of ours that mean nothing here, to be logged once.
 *
 * @throws PantheonError `invalid_setting`, naming the setting in `field`.
 */
export function loadConfig(
  flags: Flags = {},
  environment: Environment = process.env,
  cwd: string = process.cwd(),
): { readonly config: Config; readonly unknown: readonly string[] } {
  const { mistyped, unknown } = findMistyped(settingsIn(environment), PREFIX, SETTING_NAMES);
  if (mistyped !== null)
    throw invalid(mistyped.meant, `There is no setting ${mistyped.written}. Did you mean ${PREFIX}${mistyped.meant}?`);
  return { config: toConfig((name) => given(name, flags, environment), cwd), unknown };
}

/** What only the command line reads, for talking to a server: `PANTHEON_AUTH_<name>`. */
const CLIENT_VARIABLE_NAMES = ['URL', 'KEY', 'KEY_FILE', 'SUBJECT_KEY', 'SUBJECT_TOKEN'] as const;

export type ClientVariables = Readonly<Partial<Record<(typeof CLIENT_VARIABLE_NAMES)[number], string>>>;

/** The variables of the command line. An empty one counts as left out: it is how a shell clears one for a command. */
export function loadClientVariables(environment: Environment = process.env): ClientVariables {
  const found = CLIENT_VARIABLE_NAMES.map((name) => [name, environment[PREFIX + name]] as const);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined && value !== ''));
}

/** Variables, without those that are for the command line: they are neither settings nor slips. */
function settingsIn(environment: Environment): readonly string[] {
  const others = new Set<string>(CLIENT_VARIABLE_NAMES.map((name) => PREFIX + name));
  return Object.keys(environment).filter((name) => !others.has(name));
}

type Read = (name: SettingName) => string | undefined;

function toConfig(read: Read, cwd: string): Config {
  const port = parsePort('PORT', read('PORT') ?? String(PORT_DEFAULT));
  const host = read('HOST') ?? HOST_DEFAULT;
  const dataDir = resolve(cwd, read('DATA_DIR') ?? join(repositoryOf(cwd) ?? cwd, 'data'));
  const masterKey = read('MASTER_KEY');
  const masterKeyFile = read('MASTER_KEY_FILE');
  if (masterKey !== undefined && masterKeyFile !== undefined)
    throw invalid('MASTER_KEY', 'Give MASTER_KEY or MASTER_KEY_FILE, not both.');
  const metricsPort = read('METRICS_PORT');
  return {
    port,
    host,
    dataDir,
    database: databaseOf(read, dataDir),
    limits: limitsOf(read),
    publicUrl: publicUrlOf(read('PUBLIC_URL'), { port, host }),
    audience: parseAudience('AUDIENCE', read('AUDIENCE')),
    ...(masterKey !== undefined && { masterKey }),
    ...(masterKeyFile !== undefined && { masterKeyFile: resolve(cwd, masterKeyFile) }),
    rootKeyFile: resolve(cwd, read('ROOT_KEY_FILE') ?? join(dataDir, 'root.key')),
    metricsPort: metricsPort === undefined ? null : parsePort('METRICS_PORT', metricsPort),
    trustedProxies: parseTrustedProxies('TRUSTED_PROXIES', read('TRUSTED_PROXIES')),
    logLevel: parseChoice('LOG_LEVEL', read('LOG_LEVEL') ?? 'info', LOG_LEVELS),
    docs: parseSwitch('DOCS', read('DOCS') ?? 'on'),
  };
}

/** An empty value is a mistake: a variable that was meant to be filled in, perhaps with the master key. */
function given(name: SettingName, flags: Flags, environment: Environment): string | undefined {
  const value = flags[name] ?? environment[PREFIX + name];
  if (value?.trim() === '') throw invalid(name, 'It is empty. Give a value or leave it out.');
  return value;
}

function publicUrlOf(text: string | undefined, listen: { readonly port: number; readonly host: string }): string {
  const isLoopback = LOOPBACK.test(listen.host);
  if (text !== undefined) return parsePublicUrl('PUBLIC_URL', text, { httpAllowed: isLoopback });
  if (!isLoopback) throw invalid('PUBLIC_URL', 'It is required when HOST is not the loopback address.');
  if (listen.port === 0) throw invalid('PUBLIC_URL', 'It is required when PORT is 0.');
  return `http://localhost:${listen.port}`;
}

/** So that `npm start` means the same data wherever in the repository it was typed. */
function repositoryOf(start: string): string | null {
  for (let folder = resolve(start); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'packages/pantheon-auth-server/package.json'))) return folder;
    if (folder === dirname(folder)) return null;
  }
}

function invalid(field: SettingName, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
