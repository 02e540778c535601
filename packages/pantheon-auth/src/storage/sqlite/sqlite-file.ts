/** The database file before it is opened: created for its owner alone, refused when it is not a plain file. */
import { chmodSync, closeSync, constants, fchmodSync, lstatSync, mkdirSync, openSync } from 'node:fs';
import { OWNER_ONLY } from '../../foundation/durable-file.ts';
import { PantheonError } from '../../foundation/errors.ts';

const NOT_THE_OWNER = 0o077;
/** Made beside it, by SQLite with the permissions of the database file itself; the last by `disk-reserve.ts`. */
const COMPANIONS = ['', '-wal', '-shm', '-journal', '-reserve'] as const;

/**
 * Makes sure that there is a plain file at `path` which only its owner may read.
 *
 * @throws PantheonError `store_unusable` with what is wrong and what to do.
 */
export function prepareFile(path: string, onWarning: (warning: string) => void): void {
  if (!exists(path)) create(path);
  for (const companion of COMPANIONS) restrict(path + companion, onWarning);
}

/** An error that names the file, what is wrong with it and the remedy. */
export function unusable(path: string, what: string, cause?: unknown): PantheonError {
  return new PantheonError('store_unusable', { detail: `${path}: ${what}`, cause });
}

/** Is there anything of that name? A dangling symbolic link is something. */
function exists(path: string): boolean {
  return statOf(path) !== undefined;
}

function statOf(path: string): ReturnType<typeof lstatSync> | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw unusable(path, 'cannot be looked at. Check the permissions of its folder.', error);
  }
}

function create(path: string): void {
  let file: number;
  try {
    // Exclusive: never through a link, and never a file that this process has open, since closing any descriptor of
    // a file drops every lock that the process holds on it (POSIX), also those of SQLite.
    file = openSync(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, OWNER_ONLY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return; // Another process was first; it is looked at like any other file.
    const what =
      code === 'ENOENT' || code === 'ENOTDIR'
        ? 'its folder does not exist. Create it first.'
        : `cannot be created (${String(code)}). Check the permissions of its folder and the disk.`;
    throw unusable(path, what, error);
  }
  try {
    fchmodSync(file, OWNER_ONLY); // The umask may have taken the owner's bits too.
  } finally {
    closeSync(file);
  }
}

function restrict(path: string, onWarning: (warning: string) => void): void {
  const stats = statOf(path);
  if (stats === undefined) return;
  if (stats.isSymbolicLink()) throw unusable(path, 'is a symbolic link. Give the path of the file itself.');
  if (stats.isDirectory()) throw unusable(path, 'is a folder. Give the path of a file in it.');
  if (!stats.isFile()) throw unusable(path, 'is not a plain file. Give another path.');
  if ((Number(stats.mode) & NOT_THE_OWNER) === 0) return;
  try {
    chmodSync(path, OWNER_ONLY);
  } catch (error) {
    throw unusable(path, 'can be read by others and belongs to someone else. Run as its owner.', error);
  }
  onWarning(`${path} could be read by other users. It is now restricted to its owner (0600).`);
}

/** The folder of the database, if it is not there: its owner's alone. */
export function makeDataFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const detail = `The folder ${path} cannot be created.`;
    throw new PantheonError('store_unusable', { field: 'dataDir', detail, cause });
  }
}
