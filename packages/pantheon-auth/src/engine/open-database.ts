/**
 * Opens the database of the options. SQLite is imported only when used, so that programs on PostgreSQL also run on a
 * Node without it.
 */
import { join } from 'node:path';
import type { Clock } from '../foundation/clock.ts';
import { hasCode, PantheonError } from '../foundation/errors.ts';
import { assertNotLost } from '../kms/lost-database.ts';
import type { Database } from '../storage/database.ts';
import { makeDataFolder } from '../storage/sqlite/sqlite-file.ts';
import type { EmbeddedOptions, Logger, PantheonAuthOptions } from './options.ts';

/** @throws PantheonError as `createPantheonAuth`. */
export async function openDatabase(options: PantheonAuthOptions, clock: Clock, logger: Logger): Promise<Database> {
  const { keysPerTenantMax } = options;
  const onWarning = (warning: string): void => logger.warn({}, warning);
  if (options.database !== undefined) return options.database.open({ clock, onWarning, keysPerTenantMax });
  const databaseFile = databaseFileOf(options);
  assertNotLost({ ...options, databaseFile });
  const { openSqlite } = await loadSqlite();
  makeDataFolder(options.dataDir);
  return openSqlite({
    path: databaseFile,
    clock,
    onWarning,
    onDamage: (error) => logger.error({ err: error }, 'the database is damaged; nothing is read from it any more'),
    keysPerTenantMax,
    ...(options.checkDatabase !== undefined && { checkPages: options.checkDatabase }),
  });
}

export function databaseFileOf({ databaseFile, dataDir }: EmbeddedOptions): string {
  return databaseFile ?? join(dataDir, 'pantheon-auth.db');
}

/** @throws PantheonError `store_unusable` on a Node without it. */
async function loadSqlite(): Promise<typeof import('../storage/sqlite/sqlite.ts')> {
  try {
    return await withoutSqliteWarning(() => import('../storage/sqlite/sqlite.ts'));
  } catch (cause) {
    if (!hasCode(cause, 'ERR_UNKNOWN_BUILTIN_MODULE')) throw cause;
    const detail = `This Node (${process.version}) has no SQLite. Use Node 22.18, 24.11 or a newer one, or PostgreSQL.`;
    throw new PantheonError('store_unusable', { detail, cause });
  }
}

/** Suppresses the warning of Node 22 that SQLite is experimental. Other warnings are emitted. */
async function withoutSqliteWarning<T>(load: () => Promise<T>): Promise<T> {
  const { emitWarning } = process;
  const quiet = (...args: Parameters<typeof emitWarning>): void => {
    if (!/SQLite is an experimental feature/.test(String(args[0]))) Reflect.apply(emitWarning, process, args);
  };
  process.emitWarning = quiet as typeof emitWarning;
  try {
    return await load();
  } finally {
    // Unless other code has replaced it meanwhile.
    if (process.emitWarning === quiet) process.emitWarning = emitWarning;
  }
}
