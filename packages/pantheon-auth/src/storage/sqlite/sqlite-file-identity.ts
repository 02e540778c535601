/**
 * Which files a path led to when the database was opened. A thread opens them by their path again: by then a backup may
 * have been put there, and what is in the old write-ahead log (WAL) must not be written into it.
 */
import { statSync } from 'node:fs';

/** The device and the number of each file there: of the database and of its WAL, which both stay while it is open. */
export interface FileIdentity {
  readonly database: string | null;
  readonly wal: string | null;
}

/** Of a database that is open: only then there is a WAL, and nobody deletes it. */
export function identityOf(path: string): FileIdentity {
  return { database: numberOf(path), wal: numberOf(`${path}-wal`) };
}

export function isSame(one: FileIdentity, other: FileIdentity): boolean {
  return one.database === other.database && one.wal === other.wal;
}

function numberOf(path: string): string | null {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? null : `${stats.dev}:${stats.ino}`;
}
