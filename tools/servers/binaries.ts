/**
 * Finds the programs of PostgreSQL, PgBouncer and Redis (or Valkey) on this machine, or installs them when it may: root, on a system with
 * apt-get. Installing starts no system service.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, globSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
  readonly basebackup: string;
}

/** Where the distributions put PostgreSQL, which is not on the PATH of Debian and Red Hat. */
const POSTGRES_FOLDERS = [
  '/usr/lib/postgresql/*/bin',
  '/usr/pgsql-*/bin',
  '/opt/homebrew/opt/postgresql@*/bin',
  '/usr/local/opt/postgresql@*/bin',
];

/** A mirror may be slow, and another apt-get may hold the lock; past this nothing is coming. */
const INSTALL_MS_MAX = 300_000;
const APT_LOCK_SECONDS_MAX = 120;

/** What apt-get's hooks ask before they start a service; 101 is "not allowed". */
const SERVICE_POLICY_FILE = '/usr/sbin/policy-rc.d';
const SERVICE_POLICY = '#!/bin/sh\nexit 101\n';

export const POSTGRES_ADVICE =
  'install PostgreSQL 14 or newer (Debian: `apt-get install postgresql`), or set PANTHEON_AUTH_TEST_POSTGRES_URL';
export const PGBOUNCER_ADVICE = 'install PgBouncer (Debian: `apt-get install pgbouncer`)';
export const REDIS_ADVICE =
  'install Redis 6.2 or newer or Valkey (Debian: `apt-get install redis-server`), or set PANTHEON_AUTH_TEST_REDIS_URL';

/** @returns null when this machine has none. All come from one folder, so of one version. */
export function findPostgres(
  folders: readonly string[] = [...pathFolders(), ...POSTGRES_FOLDERS.flatMap(newestFirst)],
): PostgresBinaries | null {
  for (const folder of folders) {
    const found = {
      initdb: join(folder, 'initdb'),
      postgres: join(folder, 'postgres'),
      basebackup: join(folder, 'pg_basebackup'),
    };
    if (Object.values(found).every(isExecutable)) return found;
  }
  return null;
}

/** @returns null when this machine has none. */
export function findRedis(folders: readonly string[] = pathFolders()): string | null {
  const candidates = folders.flatMap((folder) => [join(folder, 'redis-server'), join(folder, 'valkey-server')]);
  return candidates.find(isExecutable) ?? null;
}

/** Not on the PATH of every user: Debian has it among the programs of the administrator. @returns null when there is none. */
export function findPgBouncer(folders: readonly string[] = [...pathFolders(), '/usr/sbin']): string | null {
  return folders.map((folder) => join(folder, 'pgbouncer')).find(isExecutable) ?? null;
}

/** Finds PostgreSQL, else installs it. @throws with advice when neither is possible. */
export async function obtainPostgres(): Promise<PostgresBinaries> {
  return await obtain('postgresql', POSTGRES_ADVICE, findPostgres);
}

/** Finds Redis, else installs it. @throws with advice when neither is possible. */
export async function obtainRedis(): Promise<string> {
  return await obtain('redis-server', REDIS_ADVICE, findRedis);
}

/** Finds PgBouncer, else installs it. @throws with advice when neither is possible. */
export async function obtainPgBouncer(): Promise<string> {
  return await obtain('pgbouncer', PGBOUNCER_ADVICE, findPgBouncer);
}

/** The matches of a pattern, the highest version first: 17 before 9.6. */
export function newestFirst(pattern: string): readonly string[] {
  return globSync(pattern).sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
}

async function obtain<T>(debianPackage: string, advice: string, find: () => T | null): Promise<T> {
  const present = find();
  if (present !== null) return present;
  if (process.getuid?.() !== 0 || !pathFolders().some((folder) => isExecutable(join(folder, 'apt-get')))) {
    throw new Error(`${debianPackage} was not found on this machine: ${advice}`);
  }
  try {
    await install(debianPackage);
  } catch (cause) {
    throw new Error(`${debianPackage} could not be installed: ${advice}`, { cause });
  }
  const installed = find();
  if (installed === null) throw new Error(`${debianPackage} was installed but not found: ${advice}`);
  return installed;
}

/** One at a time: the second would take the first one's policy file away. */
let installing: Promise<unknown> = Promise.resolve();

async function install(debianPackage: string): Promise<void> {
  const turn = installing.then(() => installNow(debianPackage));
  installing = turn.catch(() => undefined);
  await turn;
}

async function installNow(debianPackage: string): Promise<void> {
  console.log(`installing ${debianPackage} with apt-get, for tests`);
  const ownPolicy = !existsSync(SERVICE_POLICY_FILE);
  if (ownPolicy) writeFileSync(SERVICE_POLICY_FILE, SERVICE_POLICY, { mode: 0o755 });
  try {
    const arguments_ = ['install', '-y', '--no-install-recommends', debianPackage];
    // The lists of a fresh image are empty and those of an old one name versions that are gone: then update and try again.
    await aptGet(arguments_).catch(async () => {
      await aptGet(['update']);
      await aptGet(arguments_);
    });
  } finally {
    if (ownPolicy) rmSync(SERVICE_POLICY_FILE, { force: true });
  }
}

async function aptGet(args: readonly string[]): Promise<void> {
  await promisify(execFile)('apt-get', ['-o', `DPkg::Lock::Timeout=${APT_LOCK_SECONDS_MAX}`, ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
    timeout: INSTALL_MS_MAX,
  });
}

function pathFolders(): readonly string[] {
  return (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
