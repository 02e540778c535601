/**
 * Errors of the engine name its options, which programs that embed it know. Operators know settings instead, so this
 * maps each option to its setting.
 */
import { PantheonError } from 'pantheon-auth';
import type { SettingName } from './config.ts';

type Names = Readonly<Record<string, SettingName>>;

/** Of `createPantheonAuth`. */
export const ENGINE_OPTIONS: Names = {
  issuer: 'PUBLIC_URL',
  audience: 'AUDIENCE',
  dataDir: 'DATA_DIR',
  databaseFile: 'DATABASE_URL',
  database: 'DATABASE_URL',
  'database.url': 'DATABASE_URL',
  // Options that are checked only when the database is opened.
  url: 'DATABASE_URL',
  limits: 'LIMITS',
  'limits.url': 'REDIS_URL',
  masterKey: 'MASTER_KEY',
  masterKeyFile: 'MASTER_KEY_FILE',
};

/** Of `postgres`. */
export const POSTGRES_OPTIONS: Names = { url: 'DATABASE_URL', schema: 'DATABASE_SCHEMA', poolMax: 'POSTGRES_POOL_MAX' };

/** Of `redisLimits`. */
export const REDIS_OPTIONS: Names = { url: 'REDIS_URL', onLimiterOutage: 'ON_LIMITER_OUTAGE' };

const REDIS_REQUIRED =
  'Give REDIS_URL to every node, or set LIMITS=local to let each count alone. ' +
  'Without either, two nodes may run only while one replaces the other, and none with REDIS_URL beside them.';

/** Runs a call of the engine. Its errors name settings instead of options. */
export async function namingSettings<Result>(names: Names, call: () => Result | Promise<Result>): Promise<Result> {
  try {
    return await call();
  } catch (error) {
    throw inSettings(error, names);
  }
}

function inSettings(error: unknown, names: Names): unknown {
  if (!(error instanceof PantheonError)) return error;
  const field = Object.hasOwn(names, error.field ?? '') ? names[error.field ?? ''] : undefined;
  const detail = error.code === 'redis_required' ? (error.detail ?? REDIS_REQUIRED) : error.detail;
  if (field === undefined && detail === error.detail) return error;
  return new PantheonError(error.code, {
    ...(field !== undefined && { field }),
    ...(detail !== null && { detail }),
    ...(error.retryAfterSeconds !== null && { retryAfterSeconds: error.retryAfterSeconds }),
    cause: error,
  });
}
