/** What an instance is made with: everything in one folder, or any number of nodes on one database. */
import { RATE_LIMIT_MAX } from '../domain/limits.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { pathFlaw, textFlaw } from '../foundation/written-text.ts';
import type { SharedLimits } from '../rate-limit/rate-limiter.ts';
import type { DatabaseSource } from '../storage/database.ts';

/** Where warnings and errors go. `pino` fits. Nothing secret is ever passed to it. */
export interface Logger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What every instance needs. */
interface CommonOptions {
  /** 32 bytes as 64 hex digits, base64 or base64url. Anyone who can read the environment can read it there. */
  readonly masterKey?: string;
  /** `iss` of tokens: an absolute URL. */
  readonly issuer: string;
  /** Audience of tokens whose key's policy names none. Default: the issuer. */
  readonly audience?: readonly string[];
  /** First part of every key string. Default `pan`. */
  readonly keyPrefix?: string;
  /**
   * Memory that this node may use to remember keys and tokens and to count limits, in bytes. It is an estimate: the process
   * takes more than that besides. Default: a third of its heap, at most 512 MB.
   */
  readonly cacheBytesMax?: number;
  /** Keys remembered in memory at most, whatever their size. Default 100 000. */
  readonly knownKeysMax?: number;
  /** How many keys a tenant may have that are not revoked. Default 1 000 000. */
  readonly keysPerTenantMax?: number;
  /** How often one key may rotate itself within an hour. Default 300. */
  readonly selfRotationsPerHour?: number;
  readonly logger?: Logger;
  /** For tests. */
  readonly clock?: Clock;
}

/** Everything in one folder of this machine: SQLite, and the master key. */
export interface EmbeddedOptions extends CommonOptions {
  /** Folder of the database and, unless it is given otherwise, the master key. Made when it does not exist. */
  readonly dataDir: string;
  /** The database file. Default: `pantheon-auth.db` in `dataDir`. */
  readonly databaseFile?: string;
  /**
   * Whether the whole database is read through at the start, to look for damage: the start waits a second for it at most,
   * and the rest goes on in the background. Default: yes. A file of less than 8 MB, and the end of the log, always are.
   */
  readonly checkDatabase?: boolean;
  /** Default: `master.key` in `dataDir`; made on the first start, when the database is new. */
  readonly masterKeyFile?: string;
  readonly database?: never;
  /** Where limits are counted. Default: in this process. */
  readonly limits?: SharedLimits;
}

/** Any number of nodes on one database. The master key is the same for all of them, and is not made by any. */
export interface ScaledOutOptions extends CommonOptions {
  /** From `pantheon-auth/postgres`. */
  readonly database: DatabaseSource;
  /** One of `masterKey` and this is needed. */
  readonly masterKeyFile?: string;
  readonly dataDir?: never;
  readonly databaseFile?: never;
  readonly checkDatabase?: never;
  /**
   * Where limits are counted: from `pantheon-auth/redis`. Without it this must be the only node; one other may
   * start beside it to replace it, and while both run each admits half of every rate limit. A third is refused with
   * `redis_required`. `local`: each node admits the whole of every limit, in writing.
   */
  readonly limits?: SharedLimits | 'local';
}

export type PantheonAuthOptions = EmbeddedOptions | ScaledOutOptions;

interface OptionCheck {
  readonly is: (value: unknown) => boolean;
  readonly advice: string;
  /** What its writer did not see in it. */
  readonly flawOf?: (text: string) => string | null;
}

/** Less than this remembers a handful of large keys. */
const CACHE_BYTES_LEAST: number = 4 * 1_024 * 1_024;

/** Every option, and whether a value that was given for it can be one. Left out and `undefined` are the same. */
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
  selfRotationsPerHour: { is: isCount, advice: 'a whole number above 0, and one that a rate limit can have' },
  checkDatabase: { is: (value) => typeof value === 'boolean', advice: 'true or false' },
  logger: {
    is: (value) => hasMethods(value, ['warn', 'error']),
    advice: 'an object with warn and error, such as pino',
  },
  clock: { is: (value) => hasMethods(value, ['now', 'monotonicMs']), advice: 'an object with now and monotonicMs' },
  dataDir: text('the path of a folder', pathFlaw),
  databaseFile: text('the path of a file', pathFlaw),
  masterKeyFile: text('the path of a file', pathFlaw),
  database: { is: (value) => hasMethods(value, ['open']), advice: 'what postgres() of pantheon-auth/postgres answers' },
  limits: {
    is: (value) => value === 'local' || hasMethods(value, ['open']),
    advice: 'local, or what redisLimits() of pantheon-auth/redis answers',
  },
};

/**
 * Holds options that were written without types against what there is: a misspelt `masterKeyFile` would otherwise make a
 * new master key, and an unknown value of `limits` would count for each node alone.
 *
 * @throws PantheonError `invalid_setting`, naming the option; what was given is not repeated.
 */
export function assertOptions(options: PantheonAuthOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(OPTION_CHECKS, name)) throw invalid(name, 'There is no such option.');
    const check = OPTION_CHECKS[name as keyof typeof OPTION_CHECKS];
    if (value === undefined) continue;
    if (!check.is(value)) throw invalid(name, `It is ${check.advice}.`);
    for (const one of [value].flat()) {
      const flaw = typeof one === 'string' ? (check.flawOf?.(one) ?? null) : null;
      if (flaw !== null) throw invalid(name, flaw);
    }
  }
  if (options.issuer === undefined) throw invalid('issuer', 'It is needed: an absolute URL.');
  if (options.database === undefined && options.dataDir === undefined)
    throw invalid('dataDir', 'It is needed: the path of a folder. Or give a database.');
}

function text(advice: string, flawOf?: OptionCheck['flawOf']): OptionCheck {
  const is = (value: unknown): boolean => typeof value === 'string' && value !== '';
  return { is, advice, ...(flawOf !== undefined && { flawOf }) };
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= RATE_LIMIT_MAX;
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
