/** Text printed after the start: the path of the root key and example commands. It contains no secret. */
import { relative } from 'node:path';
import { ACTIONS, grants, type PantheonAuth, PantheonError, parseKey, SYSTEM_TENANT } from 'pantheon-auth';
import { API_KEY_TYPE, TOKEN_EXCHANGE } from '../oauth/token-request.ts';
import type { Config } from '../settings/config.ts';
import { type RootKeyState, rootKeyStore } from './open.ts';

/** A running service. */
export interface Welcomed {
  /** The URL on this machine. */
  readonly localUrl: string;
  readonly rootKey: RootKeyState;
  /** Whether the root key file contains a valid administrator key of this database. */
  readonly isRootKeyHere: boolean;
}

/**
 * Whether a file contains a valid root key of this database, not one of another database and not one that has been
 * revoked or rotated. The key is looked up without being used, so that starting a node does not count as a use.
 */
export async function holdsRootKey(auth: PantheonAuth, path: string): Promise<boolean> {
  try {
    const id = parseKey(rootKeyStore(path).read()?.trim() ?? '')?.id;
    if (id === undefined) return false;
    const { isActive, version, permissions } = await auth.tenant(SYSTEM_TENANT).keys.get(id);
    return isActive && version === 1 && grants(permissions, ACTIONS['keys.create']);
  } catch (error) {
    // The file cannot be read, or the key is not in this database. An unreachable database fails the start elsewhere.
    if (error instanceof PantheonError) return false;
    throw error;
  }
}

/** Writes to standard output by default. */
export function printWelcome(
  config: Pick<Config, 'rootKeyFile' | 'docs'>,
  running: Welcomed,
  write: (text: string) => void = (text) => process.stdout.write(text),
): void {
  const url = running.localUrl;
  const first = `Pantheon Auth serves on ${url}${config.docs ? ` (the API: ${url}/docs)` : ''}`;
  if (running.rootKey === 'missing' || !running.isRootKeyHere) {
    const next =
      running.rootKey === 'missing'
        ? 'There is no administrator yet. Create its key with the same settings: pantheon-auth bootstrap --out FILE'
        : `The root key of this store is not in ${config.rootKeyFile}: use the file that it was moved to, or that bootstrap wrote.`;
    write(`${first}\n${next}\n`);
    return;
  }
  const file = quoted(shorter(relative(process.cwd(), config.rootKeyFile), config.rootKeyFile));
  const made = running.rootKey === 'created' ? 'The root key was created and is in' : 'The root key is in';
  write(`${[first, `${made} ${config.rootKeyFile}`, '', ...commands(url, file), ''].join('\n')}\n`);
}

/**
 * Commands for a POSIX shell. Keys go through pipes, because every process of the machine can read the arguments of a
 * program.
 */
function commands(url: string, rootKeyFile: string): readonly string[] {
  return [
    '# Call with the root key',
    `root() { sed 's/^/Authorization: Bearer /' ${rootKeyFile} | curl -fsS -H @- -H 'Content-Type: application/json' "$@"; }`,
    '# Create a key',
    `KEY=$(root ${url}/v1/keys -d '{"userId":"user-1","name":"first key","permissions":["reports:read"]}' | sed 's/^{"key":"\\([^"]*\\)".*/\\1/')`,
    '# Verify it',
    `root ${url}/v1/keys/verify -d @/dev/fd/3 3<<EOF`,
    '{"key":"$KEY","permissions":["reports:read"]}',
    'EOF',
    '# Exchange it for a JWT',
    `curl -fsS ${url}/oauth2/token -d grant_type=${TOKEN_EXCHANGE} -d subject_token_type=${API_KEY_TYPE} -d @- <<EOF`,
    'subject_token=$KEY',
    'EOF',
  ];
}

function shorter(one: string, other: string): string {
  return one.length < other.length ? one : other;
}

/** The path quoted for a POSIX shell. */
function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
