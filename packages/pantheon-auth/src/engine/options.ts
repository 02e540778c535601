/** The options of `createPantheonAuth`: embedded in one folder, or any number of nodes on one database. */
import { RATE_LIMIT_MAX } from '../domain/limits.ts';
import type { Clock } from '../foundation/clock.ts';
import { parseDuration } from '../foundation/duration.ts';
import { PantheonError } from '../foundation/errors.ts';
import { pathFlaw, textFlaw } from '../foundation/written-text.ts';
import type { SharedLimits } from '../rate-limit/rate-limiter.ts';
import type { DatabaseSource } from '../storage/database.ts';

/** Receives warnings and errors, for example `pino`. Secrets are never passed to it. */
export interface Logger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Options of every instance. */
interface CommonOptions {
  /**
   * The master key: 32 bytes as 64 hex digits, base64 or base64url. A file is safer than an environment variable, which
   * other processes may be able to read.
   */
  readonly masterKey?: string;
  /** `iss` of tokens: an absolute URL. */
  readonly issuer: string;
  /** Audiences of tokens for keys whose policy names none. Default: the issuer. */
  readonly audience?: readonly string[];
  /** First part of every key string. Default: `pan`. */
  readonly keyPrefix?: string;
  /**
   * Memory for caches of keys and tokens and for rate-limit counters, in bytes, as an estimate. The process needs more
   * in addition. Default: a third of the heap, at most 512 MB.
   */
  readonly cacheBytesMax?: number;
  /** The most keys in the cache, whatever their size. Default: 100 000. */
  readonly knownKeysMax?: number;
  /** The most keys of a tenant that are not revoked. Default: 1 000 000. */
  readonly keysPerTenantMax?: number;
  /** How often one key may rotate itself within an hour. Default: 300. */
  readonly selfRotationsPerHour?: number;
  /**
   * How long a signing key signs before its standby key replaces it: `"90d"`, at least one day, or `off`. Default:
   * `"90d"`.
   */
  readonly signingKeyRotation?: string;
  /**
   * How long ahead the expiry of a key is announced, by the event `key.expiring` and a header on the answers to its
   * holder. At most 8 durations. Default: `['30d', '7d', '1d']`.
   */
  readonly expiryNotices?: readonly string[];
  readonly logger?: Logger;
  /** For tests. */
  readonly clock?: Clock;
}

/** Options for one machine: SQLite and the master key in one folder. */
export interface EmbeddedOptions extends CommonOptions {
  /** Folder of the database and, by default, of the master key. Created if it does not exist. */
  readonly dataDir: string;
  /** The database file. Default: `pantheon-auth.db` in `dataDir`. */
  readonly databaseFile?: string;
  /**
   * Whether the whole database is checked for damage at the start. The start waits at most a second for it; the rest
   * runs in the background. Default: true. A file of less than 8 MB, and the end of the log, are always checked.
   */
  readonly checkDatabase?: boolean;
  /** The file of the master key. Default: `master.key` in `dataDir`, created together with a new database. */
  readonly masterKeyFile?: string;
  readonly database?: never;
  /** Where limits are counted. Default: in this process. */
  readonly limits?: SharedLimits;
}

/** Options for any number of nodes on one database. All nodes have the same master key, which must be given. */
export interface ScaledOutOptions extends CommonOptions {
  /** From `pantheon-auth/postgres`. */
  readonly database: DatabaseSource;
  /** Required unless `masterKey` is given. */
  readonly masterKeyFile?: string;
  readonly dataDir?: never;
  readonly databaseFile?: never;
  readonly checkDatabase?: never;
  /**
   * Where limits are counted: a value from `pantheon-auth/redis`. Without it this must be the only node. A second node
   * may start to replace it; while both run, each admits half of every rate limit. A third does not start
   * (`redis_required`). `local`: each node counts alone, so each admits the whole of every limit.
   */
  readonly limits?: SharedLimits | 'local';
}

export type PantheonAuthOptions = EmbeddedOptions | ScaledOutOptions;

interface OptionCheck {
  readonly is: (value: unknown) => boolean;
  readonly advice: string;
  /** Finds mistakes that are hard to see, such as quotation marks. */
  readonly flawOf?: (text: string) => string | null;
}

/** With less memory only a few large keys fit into the cache. */
const CACHE_BYTES_LEAST: number = 4 * 1_024 * 1_024;

/** The check of each option. `undefined` counts as not given. */
const OPTION_CHECKS: Readonly<Record<keyof EmbeddedOptions | keyof ScaledOutOptions, OptionCheck>> = {
  masterKey: text('32 bytes as 64 hex digits, base64 or base64url'),
  issuer: text('an absolute URL', textFlaw),
  audience: { is: isListOfTexts, advice: 'a list of texts', flawOf: textFlaw },
  keyPrefix: text('the first part of key strings, such as pan'),
  knownKeysMax: { is: isCount, advice: 'a whole number above 0' },
  cacheBytesMax: {
    is: (value) => Number.isSafeInteger(value) && Number(value) >= CACHE_BYTES_LEAST,
    advice: `a whole number of bytes from ${CACHE_BYTES_LEAST}`,
  },
  keysPerTenantMax: { is: isCount, advice: 'a whole number above 0' },
  signingKeyRotation: { is: isRotation, advice: 'a duration from 1d on, such as 90d, or off' },
  expiryNotices: { is: isExpiryNotices, advice: 'a list of at most 8 durations, such as 7d' },
  selfRotationsPerHour: { is: isCount, advice: 'a whole number from 1 to the largest rate limit' },
  checkDatabase: { is: (value) => typeof value === 'boolean', advice: 'true or false' },
  logger: {
    is: (value) => hasMethods(value, ['warn', 'error']),
    advice: 'an object with warn and error, such as pino',
  },
  clock: { is: (value) => hasMethods(value, ['now', 'monotonicMs']), advice: 'an object with now and monotonicMs' },
  dataDir: text('the path of a folder', pathFlaw),
  databaseFile: text('the path of a file', pathFlaw),
  masterKeyFile: text('the path of a file', pathFlaw),
  database: {
    is: (value) => hasMethods(value, ['open']),
    advice: 'the result of postgres() of pantheon-auth/postgres',
  },
  limits: {
    is: (value) => value === 'local' || hasMethods(value, ['open']),
    advice: 'local, or the result of redisLimits() of pantheon-auth/redis',
  },
};

/**
 * Validates the options of callers without types. Otherwise a misspelt `masterKeyFile` would create a new master key,
 * and an unknown value of `limits` would count on each node alone.
 *
 * @throws PantheonError `invalid_setting`, naming the option without repeating its value.
 */
export function assertOptions(options: PantheonAuthOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(OPTION_CHECKS, name)) throw invalid(name, 'There is no such option.');
    const check = OPTION_CHECKS[name as keyof typeof OPTION_CHECKS];
    if (value === undefined) continue;
    if (!check.is(value)) throw invalid(name, `It must be ${check.advice}.`);
    for (const one of [value].flat()) {
      const flaw = typeof one === 'string' ? (check.flawOf?.(one) ?? null) : null;
      if (flaw !== null) throw invalid(name, flaw);
    }
  }
  if (options.issuer === undefined) throw invalid('issuer', 'It is required: an absolute URL.');
  if (options.database === undefined && options.dataDir === undefined)
    throw invalid('dataDir', 'Give dataDir, the path of a folder, or a database.');
}

function text(advice: string, flawOf?: OptionCheck['flawOf']): OptionCheck {
  const is = (value: unknown): boolean => typeof value === 'string' && value !== '';
  return { is, advice, ...(flawOf !== undefined && { flawOf }) };
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= RATE_LIMIT_MAX;
}

/** More often would leave no time for what a key has signed to expire. */
const SIGNING_KEY_ROTATION_SECONDS_LEAST = 86_400;

/** The most entries of `expiryNotices`: each makes an event for each key that expires. */
export const EXPIRY_NOTICES_MAX = 8;

/** The distances of the options, in seconds. */
export function expiryNoticesOf({ expiryNotices = EXPIRY_NOTICES_DEFAULT }: CommonOptions): readonly number[] {
  return expiryNotices.map((one) => parseDuration(one) ?? 0);
}

const EXPIRY_NOTICES_DEFAULT: readonly string[] = ['30d', '7d', '1d'];

function isExpiryNotices(value: unknown): boolean {
  const isList = Array.isArray(value) && value.length <= EXPIRY_NOTICES_MAX;
  return isList && value.every((one) => typeof one === 'string' && (parseDuration(one) ?? 0) > 0);
}

function isRotation(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  return value === 'off' || (parseDuration(value) ?? 0) >= SIGNING_KEY_ROTATION_SECONDS_LEAST;
}

function isListOfTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== '');
}

function hasMethods(value: unknown, names: readonly string[]): boolean {
  return (
    typeof value === 'object' && value !== null && names.every((name) => typeof Reflect.get(value, name) === 'function')
  );
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}

/** @throws PantheonError `invalid_setting`. */
export function parseIssuer(text: string): string {
  if (URL.canParse(text) && !text.endsWith('/') && /^https?:$/.test(new URL(text).protocol)) return text;
  throw invalid('issuer', 'An absolute http(s) URL without a slash at its end.');
}
