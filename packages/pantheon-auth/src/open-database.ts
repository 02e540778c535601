/** Which database an instance stands on: the one that its options bring, else a file in its data folder. */
import { join } from 'node:path';
import type { Clock } from './foundation/clock.ts';
import { assertNotLost } from './kms/lost-database.ts';
import type { EmbeddedOptions, Logger, PantheonAuthOptions } from './options.ts';
import type { Database } from './storage/database.ts';
import { openSqlite } from './storage/sqlite.ts';
import { makeDataFolder } from './storage/sqlite-file.ts';

/** @throws PantheonError `store_unusable`, `store_unavailable`, `database_missing`, `schema_too_new`, `schema_too_old`. */
export async function openDatabase(options: PantheonAuthOptions, clock: Clock, logger: Logger): Promise<Database> {
  const onWarning = (warning: string): void => logger.warn({}, warning);
  if (options.database !== undefined) return options.database.open({ clock, onWarning });
  const databaseFile = databaseFileOf(options);
  assertNotLost({ ...options, databaseFile });
  makeDataFolder(options.dataDir);
  return openSqlite({
    path: databaseFile,
    clock,
    onWarning,
    onDamage: (error) => logger.error({ err: error }, 'the database is damaged; nothing is read from it any more'),
    ...(options.checkDatabase !== undefined && { checkPages: options.checkDatabase }),
  });
}

/** The file of the database, when it is one. */
export function databaseFileOf({ databaseFile, dataDir }: EmbeddedOptions): string {
  return databaseFile ?? join(dataDir, 'pantheon-auth.db');
}
