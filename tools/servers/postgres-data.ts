/**
 * Makes the data folders of PostgreSQL servers: new ones as copies of a template (initdb takes a second, a copy a tenth), and
 * replicas as a base backup of their primary. Everything is done as the user that the server will run as.
 */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { obtainPostgres } from './binaries.ts';
import { newServerFolder } from './run-folder.ts';
import type { SystemUser } from './server-process.ts';

const execute = promisify(execFile);

/** A template made by the process that started this one, so that not every test file makes its own. */
const TEMPLATE_VARIABLE = 'PANTHEON_AUTH_TEST_POSTGRES_TEMPLATE';

/** A small write-ahead log makes a small folder to copy. */
const WAL_SEGMENT_MEBIBYTES = 4;
const COMMAND_MS_MAX = 60_000;

let template: Promise<string> | null = null;
let user: SystemUser | null = null;

/** PostgreSQL refuses to run as root. @returns null when this process may run it itself. */
export function postgresUser(): SystemUser | null {
  if (process.getuid?.() !== 0) return null;
  user ??= lookUpUser();
  return user;
}

/** Fills `dataDir` with a new cluster: superuser `postgres`, UTF-8, trusting the loopback address. Keeps one that is there. */
export async function createData(dataDir: string): Promise<void> {
  if (existsSync(join(dataDir, 'PG_VERSION'))) return;
  ownFolder(dataDir);
  const inherited = process.env[TEMPLATE_VARIABLE];
  template ??= inherited !== undefined && existsSync(inherited) ? Promise.resolve(inherited) : createTemplate();
  await execute('cp', ['-a', `${await template}/.`, dataDir], { timeout: COMMAND_MS_MAX });
}

/** Fills `dataDir` with a copy of a running primary, which it follows once started. */
export async function copyPrimary(primaryUrl: string, dataDir: string): Promise<void> {
  const { basebackup } = await obtainPostgres();
  ownFolder(dataDir);
  await runAsPostgres(basebackup, [
    ...['--dbname', primaryUrl, '--pgdata', dataDir, '--wal-method=stream'],
    ...['--checkpoint=fast', '--write-recovery-conf', '--no-sync'],
  ]);
}

/** Lets the processes that this one starts copy its template. */
export async function shareTemplate(): Promise<void> {
  template ??= createTemplate();
  process.env[TEMPLATE_VARIABLE] = await template;
}

/**
 * A killed server leaves a few bytes of shared memory, which the system keeps until the next start on the same folder. When
 * there will be none, they are given back here: a system has room for some thousand of them.
 */
export function releaseSharedMemory(dataDir: string): void {
  const lockFile = join(dataDir, 'postmaster.pid');
  if (!existsSync(lockFile)) return;
  const id = readFileSync(lockFile, 'utf8').split('\n')[6]?.trim().split(/\s+/)[1];
  if (id === undefined) return;
  try {
    execFileSync('ipcrm', ['-m', id], { stdio: 'ignore' });
  } catch {
    // Already gone, or no such command: then it stays until the machine restarts.
  }
}

function lookUpUser(): SystemUser {
  for (const name of ['postgres', 'nobody']) {
    try {
      const idOf = (kind: string): number =>
        Number(execFileSync('id', [kind, name], { encoding: 'utf8', stdio: 'pipe' }));
      return { uid: idOf('-u'), gid: idOf('-g') };
    } catch {
      // No such user here: the next.
    }
  }
  throw new Error('PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody');
}

async function createTemplate(): Promise<string> {
  const { initdb } = await obtainPostgres();
  const folder = newServerFolder('postgres-template');
  ownFolder(folder);
  await runAsPostgres(initdb, [
    ...['--pgdata', folder, '--username=postgres', '--auth=trust', '--locale=C.UTF-8', '--encoding=UTF8'],
    ...[`--wal-segsize=${WAL_SEGMENT_MEBIBYTES}`, '--no-sync', '--no-instructions'],
  ]);
  return folder;
}

async function runAsPostgres(command: string, args: readonly string[]): Promise<void> {
  await execute(command, args, {
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    timeout: COMMAND_MS_MAX,
    ...postgresUser(),
  });
}

/** Makes an empty folder that PostgreSQL accepts: its own, closed to others. */
function ownFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (readdirSync(path).length > 0) throw new Error(`${path} is not empty and holds no PostgreSQL data`);
  const owner = postgresUser();
  if (owner !== null) chownSync(path, owner.uid, owner.gid);
  chmodSync(path, 0o700);
}
