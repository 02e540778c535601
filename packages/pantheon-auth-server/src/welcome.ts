/** What a person reads after the start: where the root key lies, and commands that work as they are printed. No secret. */
import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import type { Config } from './config.ts';
import type { RootKeyState } from './open.ts';
import { API_KEY_TYPE, TOKEN_EXCHANGE } from './routes/token-request.ts';

/** A service that listens. */
export interface Welcomed {
  /** Where it can be reached on this machine. */
  readonly localUrl: string;
  readonly rootKey: RootKeyState;
}

/** For the standard output. */
export function printWelcome(
  config: Pick<Config, 'rootKeyFile' | 'docs'>,
  running: Welcomed,
  write: (text: string) => void = (text) => process.stdout.write(text),
): void {
  const url = running.localUrl;
  const first = `Pantheon Auth serves on ${url}${config.docs ? ` (the API: ${url}/docs)` : ''}`;
  const isHere = existsSync(config.rootKeyFile);
  if (running.rootKey === 'missing' || !isHere) {
    const next =
      running.rootKey === 'missing'
        ? 'There is no administrator yet. Make its key, with the same settings: pantheon-auth bootstrap --out FILE'
        : `The root key is not in ${config.rootKeyFile}: it is where it was moved to, or where bootstrap wrote it.`;
    write(`${first}\n${next}\n`);
    return;
  }
  const file = quoted(shorter(relative(process.cwd(), config.rootKeyFile), config.rootKeyFile));
  const caller = `-H "Authorization: Bearer $(cat ${file})" -H 'Content-Type: application/json'`;
  const made = running.rootKey === 'created' ? 'The root key was made and is in' : 'The root key is in';
  const lines = [
    first,
    `${made} ${config.rootKeyFile}`,
    '',
    '# Create a key',
    `KEY=$(curl -fsS ${url}/v1/keys ${caller} -d '{"userId":"user-1","name":"first key","permissions":["reports:read"]}' | sed 's/^{"key":"\\([^"]*\\)".*/\\1/')`,
    '# Verify it',
    `curl -fsS ${url}/v1/keys/verify ${caller} -d "{\\"key\\":\\"$KEY\\",\\"permissions\\":[\\"reports:read\\"]}"`,
    '# Exchange it for a JWT',
    `curl -fsS ${url}/oauth2/token -d grant_type=${TOKEN_EXCHANGE} -d subject_token_type=${API_KEY_TYPE} -d "subject_token=$KEY"`,
    '',
  ];
  write(`${lines.join('\n')}\n`);
}

function shorter(one: string, other: string): string {
  return one.length < other.length ? one : other;
}

/** For a POSIX shell, inside double quotes and a command substitution, which starts its own quoting. */
function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
