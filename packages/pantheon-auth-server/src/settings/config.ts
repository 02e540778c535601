/**
 * The settings of the service: reads them from flags and the environment, and validates them. Flags take precedence.
 * The only file that reads the environment.
 */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { PantheonError, pathFlaw, textFlaw } from 'pantheon-auth';
import { type BoundsSetting, boundsOf } from './bounds-settings.ts';
import { findMistyped } from './mistyped-settings.ts';
import {
  isLoopback,
  parseAudience,
  parseChoice,
  parseHost,
  parsePort,
  parsePublicUrl,
  parseSwitch,
  parseTrustedProxies,
} from './settings.ts';
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
  'SELF_ROTATIONS_PER_HOUR',
  'SIGNING_KEY_ROTATION',
  'EXPIRY_NOTICES',
  'KEYS_PER_TENANT_MAX',
  'CACHE_MB',
  'PUBLIC_URL',
  'AUDIENCE',
  'MASTER_KEY',
  'MASTER_KEY_FILE',
  'ROOT_KEY_FILE',
  'METRICS_PORT',
  'METRICS_HOST',
  'TRUSTED_PROXIES',
  'ALLOW_INSECURE_HTTP',
  'LOG_LEVEL',
  'DOCS',
] as const;

export type SettingName = (typeof SETTING_NAMES)[number];

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The validated settings. */
export interface Config {
  /** 0: any free port. */
  readonly port: number;
  readonly host: string;
  readonly dataDir: string;
  readonly database: DatabaseSetting;
  readonly limits: LimitsSetting;
  readonly bounds: BoundsSetting;
  /** `iss` of tokens and the base of every link. Never derived from a request. */
  readonly publicUrl: string;
  /** Empty: the public URL is the audience. */
  readonly audience: readonly string[];
  /** Secret. */
  readonly masterKey?: string;
  /** The path if it was set; otherwise `master.key` in the data folder. */
  readonly masterKeyFile?: string;
  readonly rootKeyFile: string;
  /** Null: no metrics. */
  readonly metricsPort: number | null;
  readonly metricsHost: string;
  /** Addresses and CIDR ranges of proxies whose `X-Forwarded-For` is trusted. */
  readonly trustedProxies: readonly string[];
  /** Keys and tokens are sent unencrypted beyond this machine, allowed by `ALLOW_INSECURE_HTTP`. */
  readonly isInsecure: boolean;
  readonly logLevel: LogLevel;
  /** Whether `/docs` and `/openapi.json` are served. */
  readonly docs: boolean;
}

/** The path prefix under which a proxy serves this service: the path of the public URL, or empty. */
export function pathOf({ publicUrl }: Pick<Config, 'publicUrl'>): string {
  const { pathname } = new URL(publicUrl);
  return pathname === '/' ? '' : pathname;
}

export type Flags = Partial<Record<SettingName, string>>;
export type Environment = Readonly<Record<string, string | undefined>>;

const PREFIX = 'PANTHEON_AUTH_';
const PORT_DEFAULT = 8787;
const HOST_DEFAULT = '127.0.0.1';
/** Settings that are file paths: `~` and `$NAME` in them are errors too. */
const PATHS: ReadonlySet<SettingName> = new Set(['DATA_DIR', 'MASTER_KEY_FILE', 'ROOT_KEY_FILE']);

/**
 * Reads the settings. `unknown` lists variables with the prefix `PANTHEON_AUTH_` that are not settings, to be logged
 * once.
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

/** Variables `PANTHEON_AUTH_<name>` that only the command line reads, for calls to a server. */
const CLIENT_VARIABLE_NAMES = ['URL', 'KEY', 'KEY_FILE', 'SUBJECT_KEY', 'SUBJECT_TOKEN'] as const;

export type ClientVariables = Readonly<Partial<Record<(typeof CLIENT_VARIABLE_NAMES)[number], string>>>;

/**
 * The variables of the command line. An empty one counts as not set, because that is how a shell clears a variable for
 * one command.
 */
export function loadClientVariables(environment: Environment = process.env): ClientVariables {
  const found = CLIENT_VARIABLE_NAMES.map((name) => [name, environment[PREFIX + name]] as const);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined && value !== ''));
}

/** All variables except those of the command line, which are neither settings nor mistyped. */
function settingsIn(environment: Environment): readonly string[] {
  const others = new Set<string>(CLIENT_VARIABLE_NAMES.map((name) => PREFIX + name));
  return Object.keys(environment).filter((name) => !others.has(name));
}

type Read = (name: SettingName) => string | undefined;

function toConfig(read: Read, cwd: string): Config {
  const port = parsePort('PORT', read('PORT') ?? String(PORT_DEFAULT));
  const host = parseHost('HOST', read('HOST') ?? HOST_DEFAULT);
  const dataDir = resolve(cwd, read('DATA_DIR') ?? join(repositoryOf(cwd) ?? cwd, 'data'));
  const masterKey = read('MASTER_KEY');
  const masterKeyFile = read('MASTER_KEY_FILE');
  if (masterKey !== undefined && masterKeyFile !== undefined)
    throw invalid('MASTER_KEY', 'Give MASTER_KEY or MASTER_KEY_FILE, not both.');
  const metricsPort = read('METRICS_PORT');
  const metricsHost = read('METRICS_HOST');
  if (metricsHost !== undefined && metricsPort === undefined)
    throw invalid('METRICS_HOST', 'It needs METRICS_PORT, which is not set.');
  const allowInsecure = parseSwitch('ALLOW_INSECURE_HTTP', read('ALLOW_INSECURE_HTTP') ?? 'off');
  const { publicUrl, isInsecure } = publicUrlOf(read('PUBLIC_URL'), { port, host, allowInsecure });
  return {
    port,
    host,
    dataDir,
    database: databaseOf(read, dataDir),
    limits: limitsOf(read),
    bounds: boundsOf(read),
    publicUrl,
    audience: parseAudience('AUDIENCE', read('AUDIENCE')),
    ...(masterKey !== undefined && { masterKey }),
    ...(masterKeyFile !== undefined && { masterKeyFile: resolve(cwd, masterKeyFile) }),
    rootKeyFile: resolve(cwd, read('ROOT_KEY_FILE') ?? join(dataDir, 'root.key')),
    metricsPort: metricsPort === undefined ? null : parsePort('METRICS_PORT', metricsPort),
    metricsHost: parseHost('METRICS_HOST', metricsHost ?? HOST_DEFAULT),
    trustedProxies: parseTrustedProxies('TRUSTED_PROXIES', read('TRUSTED_PROXIES')),
    isInsecure,
    logLevel: parseChoice('LOG_LEVEL', read('LOG_LEVEL') ?? 'info', LOG_LEVELS),
    docs: parseSwitch('DOCS', read('DOCS') ?? 'on'),
  };
}

/**
 * The value, unless it is likely a mistake. An empty value may be a variable that was not filled in, such as the master
 * key. A path with quotation marks is a different folder, in which a new, empty database would be created.
 */
function given(name: SettingName, flags: Flags, environment: Environment): string | undefined {
  const value = flags[name] ?? environment[PREFIX + name];
  if (value === undefined) return undefined;
  const flaw = PATHS.has(name) ? pathFlaw(value) : textFlaw(value);
  if (flaw !== null) throw invalid(name, flaw);
  return value;
}

/**
 * Plain http is accepted only if both the listen address and the public URL are loopback, or if `ALLOW_INSECURE_HTTP`
 * is on.
 */
function publicUrlOf(
  text: string | undefined,
  { port, host, allowInsecure }: { readonly port: number; readonly host: string; readonly allowInsecure: boolean },
): Pick<Config, 'publicUrl' | 'isInsecure'> {
  if (text !== undefined) {
    const publicUrl = parsePublicUrl('PUBLIC_URL', text);
    const { protocol, hostname } = new URL(publicUrl);
    const isInsecure = protocol === 'http:' && !(isLoopback(host) && isLoopback(hostname));
    if (isInsecure && !allowInsecure) throw invalid('PUBLIC_URL', NOT_SECURE);
    return { publicUrl, isInsecure };
  }
  if (!isLoopback(host)) throw invalid('PUBLIC_URL', 'It is required when HOST is not the loopback address.');
  if (port === 0) throw invalid('PUBLIC_URL', 'It is required when PORT is 0.');
  return { publicUrl: `http://localhost:${port}`, isInsecure: false };
}

const NOT_SECURE =
  'It must be https where it, or HOST, is not the loopback address: keys travel over it. ' +
  'If the network itself is encrypted, set ALLOW_INSECURE_HTTP=on.';

/** So that `npm start` uses the same data folder from any folder of the repository. */
function repositoryOf(start: string): string | null {
  for (let folder = resolve(start); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'packages/pantheon-auth-server/package.json'))) return folder;
    if (folder === dirname(folder)) return null;
  }
}

function invalid(field: SettingName, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
