/**
 * The settings of the database and of the rate limiter, which depend on each other. A contradiction stops the start and
 * names the setting. URLs may contain a password, so they are kept as `Secret` and never repeated.
 */
import { isAbsolute, relative, resolve } from 'node:path';
import { assertPostgresUrl, assertSchemaName, PantheonError, parseRedisUrls, pathFlaw, Secret } from 'pantheon-auth';
import { parseChoice, parseCount } from './settings.ts';

export type DatabaseSetting =
  | { readonly kind: 'sqlite'; readonly file: string }
  | { readonly kind: 'postgres'; readonly url: Secret; readonly schema?: string; readonly poolMax?: number };

export type LimitsSetting =
  | { readonly kind: 'redis'; readonly url: Secret; readonly onOutage: LimiterOutagePolicy }
  /** Each process counts alone, because `LIMITS=local` says so. */
  | { readonly kind: 'local' }
  /**
   * Neither `REDIS_URL` nor `LIMITS` is set. On PostgreSQL only one node may run then, or two while one replaces the
   * other.
   */
  | { readonly kind: 'alone' };

const LIMITER_OUTAGE_POLICIES = ['local', 'deny'] as const;
type LimiterOutagePolicy = (typeof LIMITER_OUTAGE_POLICIES)[number];

/** The settings that are read here. */
type StoreSettingName =
  | 'DATABASE_URL'
  | 'DATABASE_SCHEMA'
  | 'POSTGRES_POOL_MAX'
  | 'REDIS_URL'
  | 'LIMITS'
  | 'ON_LIMITER_OUTAGE';
type Read = (name: StoreSettingName) => string | undefined;

/**
 * At least one connection for each kind of work. PostgreSQL itself allows 100 by default, so more than the maximum on
 * one node is a mistake.
 */
const POOL_BOUNDS = { min: 4, max: 500 } as const;

/** @throws PantheonError `invalid_setting`. */
export function databaseOf(read: Read, dataDir: string): DatabaseSetting {
  const url = read('DATABASE_URL') ?? 'sqlite:pantheon-auth.db';
  const poolMax = read('POSTGRES_POOL_MAX');
  const schema = read('DATABASE_SCHEMA');
  if (/^postgres(?:ql)?:/i.test(url)) {
    assertPostgresUrl(url, { url: 'DATABASE_URL', schema: 'DATABASE_SCHEMA', poolMax: 'POSTGRES_POOL_MAX' });
    if (schema !== undefined) assertSchemaName(schema, 'DATABASE_SCHEMA');
    const bound = poolMax === undefined ? {} : { poolMax: parseCount('POSTGRES_POOL_MAX', poolMax, POOL_BOUNDS) };
    return { kind: 'postgres', url: Secret.of(url), ...(schema !== undefined && { schema }), ...bound };
  }
  if (!url.startsWith('sqlite:'))
    throw invalid('DATABASE_URL', 'Write sqlite:<file in the data folder> or postgres://user@host:port/database.');
  if (poolMax !== undefined)
    throw invalid('POSTGRES_POOL_MAX', 'It applies to PostgreSQL only, and DATABASE_URL names SQLite.');
  if (schema !== undefined)
    throw invalid('DATABASE_SCHEMA', 'It applies to PostgreSQL only, and DATABASE_URL names SQLite.');
  return { kind: 'sqlite', file: databaseFileOf(url, dataDir) };
}

/** @throws PantheonError `invalid_setting`. */
export function limitsOf(read: Read): LimitsSetting {
  const url = read('REDIS_URL');
  const outage = read('ON_LIMITER_OUTAGE');
  const written = read('LIMITS');
  const kind = written === undefined ? null : parseChoice('LIMITS', written, ['redis', 'local'] as const);
  if (url === undefined) {
    if (kind === 'redis') throw invalid('LIMITS', 'It needs REDIS_URL, which is not set.');
    if (outage !== undefined)
      throw invalid('ON_LIMITER_OUTAGE', 'It applies to Redis only, and there is no REDIS_URL.');
    return { kind: kind ?? 'alone' };
  }
  if (kind === 'local') throw invalid('LIMITS', 'It contradicts REDIS_URL, which is set. Remove one of them.');
  parseRedisUrls(url, 'REDIS_URL');
  const onOutage = parseChoice('ON_LIMITER_OUTAGE', outage ?? 'local', LIMITER_OUTAGE_POLICIES);
  return { kind: 'redis', url: Secret.of(url), onOutage };
}

/** Whether one URL or several contain a password. */
export function holdsPassword(text: string): boolean {
  if (/[?&](?:ssl)?password=/i.test(text)) return true;
  // Also finds it in an invalid URL, such as one whose password is not percent-encoded.
  return text.split(',').some((part) => /:\/\/[^@]*:[^@]*@/.test(part));
}

/** The database file must be in the data folder, so that a copy of the folder contains everything. */
function databaseFileOf(url: string, dataDir: string): string {
  const path = url.slice('sqlite:'.length).replace(/^\/\/(?=\/)/, '');
  const file = resolve(dataDir, path);
  const within = relative(dataDir, file);
  const flaw = pathFlaw(path);
  if (flaw !== null) throw invalid('DATABASE_URL', flaw);
  if (within === '' || within.startsWith('..') || isAbsolute(within) || path.includes('\0'))
    throw invalid('DATABASE_URL', 'The file must be in the data folder.');
  return file;
}

function invalid(field: StoreSettingName, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
