/**
 * A master key without its database: the folder is the wrong one (a volume that was not mounted), or the database was
 * lost. A new, empty store in its place would refuse every key that is in use, so the start stops and asks.
 */
import { existsSync, statSync } from 'node:fs';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { PantheonError } from '../foundation/errors.ts';

/** Where the master key of a folder lies unless it is named. */
export function masterKeyPath(dataDir: string): string {
  return join(dataDir, 'master.key');
}

/** Whether the file lies in the folder, and so goes where the folder goes. */
export function isInFolder(folder: string, file: string): boolean {
  const within = relative(resolve(folder), resolve(file));
  return within !== '' && !within.startsWith('..') && !isAbsolute(within);
}

/**
 * Before anything is made. A key outside the folder says nothing: it may have been given for a new store.
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
  // The keys first: a first start beside this one makes the database before them.
  const key = [masterKeyPath(dataDir), ...named].find((path) => existsSync(path));
  if (key !== undefined && !isThere(databaseFile)) throw databaseMissing(key, databaseFile);
}

export function databaseMissing(keyFile: string, databaseFile: string): PantheonError {
  return new PantheonError('database_missing', {
    field: 'dataDir',
    detail:
      `${keyFile} is there, and its database ${databaseFile} is not. Is it the right folder, and is its volume mounted? ` +
      `If the database was lost, restore it from a backup. To begin a new store all the same, move ${keyFile} away: ` +
      'it is the only key to what was stored with it.',
  });
}

/** What is empty was never filled. */
function isThere(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
