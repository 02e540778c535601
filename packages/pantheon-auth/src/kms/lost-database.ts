/**
 * Refuses to create a new database where a master key file exists without its database: the folder may be the wrong one
 * (a volume that is not mounted), or the database was lost. A new, empty database would deny every key in use.
 */
import { existsSync, statSync } from 'node:fs';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { PantheonError } from '../foundation/errors.ts';

/** The default path of the master key in a data folder. */
export function masterKeyPath(dataDir: string): string {
  return join(dataDir, 'master.key');
}

/** Whether the file is in the folder, so that it is copied and moved with it. */
export function isInFolder(folder: string, file: string): boolean {
  const within = relative(resolve(folder), resolve(file));
  return within !== '' && !within.startsWith('..') && !isAbsolute(within);
}

/**
 * Called before anything is created. A master key outside of the folder is ignored, because it may have been given for
 * a new database.
 *
 * @throws PantheonError `database_missing`.
 */
export function assertNotLost(place: {
  readonly dataDir: string;
  readonly databaseFile: string;
  readonly masterKeyFile?: string | undefined;
}): void {
  const { dataDir, databaseFile, masterKeyFile } = place;
  const named = masterKeyFile !== undefined && isInFolder(dataDir, masterKeyFile) ? [masterKeyFile] : [];
  // The key files are checked first: a first start of another process creates the database before them.
  const key = [masterKeyPath(dataDir), ...named].find((path) => existsSync(path));
  if (key !== undefined && !isThere(databaseFile)) throw databaseMissing(key, databaseFile);
}

export function databaseMissing(keyFile: string, databaseFile: string): PantheonError {
  return new PantheonError('database_missing', {
    field: 'dataDir',
    detail:
      `${keyFile} is there, and its database ${databaseFile} is not. Is it the right folder, and is its volume mounted? ` +
      `If the database was lost, restore it from a backup. To create a new database anyway, move ${keyFile} away: ` +
      'it is the only key that decrypts that database.',
  });
}

/** An empty file counts as missing. */
function isThere(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
