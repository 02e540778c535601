/**
 * Opens the engine as the settings say and makes the first administrator: its key string goes into a file of its owner
 * alone, is durable before the key exists, and is never printed.
 */
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { createPantheonAuth, type Logger, type PantheonAuth, PantheonError, type RootKeyStore } from 'pantheon-auth';
import type { Config } from './config.ts';

/** The engine, running. */
export interface OpenService {
  readonly auth: PantheonAuth;
  /** Whether this start made the root key. */
  readonly rootKey: 'created' | 'existing';
  close(): Promise<void>;
}

/**
 * @throws PantheonError startup codes: `invalid_setting`, `master_key_missing`, `master_key_mismatch`, `store_unusable`,
 * `schema_too_new`.
 */
export async function openService(config: Config, logger: Logger): Promise<OpenService> {
  const { dataDir, databaseFile, publicUrl, audience, masterKey, masterKeyFile, rootKeyFile } = config;
  const auth = await createPantheonAuth({
    dataDir,
    databaseFile,
    issuer: publicUrl,
    ...(audience.length > 0 && { audience }),
    ...(masterKey !== undefined && { masterKey }),
    ...(masterKeyFile !== undefined && { masterKeyFile }),
    logger,
  });
  try {
    const root = await auth.bootstrap(rootKeyStore(rootKeyFile));
    return { auth, rootKey: root === null ? 'existing' : 'created', close: () => auth.close() };
  } catch (error) {
    await auth.close();
    throw error;
  }
}

/** Many times the length of a key: a larger file is some other file, and is not read. */
const FILE_BYTES_MAX = 1_024;
const OWNER_ONLY = 0o600;

/** Keeps the key string in a file that appears whole or not at all, and never replaces another. */
export function rootKeyStore(path: string): RootKeyStore {
  return {
    read: () => {
      try {
        const stat = statSync(path);
        if (!stat.isFile() || stat.size > FILE_BYTES_MAX) throw invalid(`${path} is something else than a root key.`);
        return readFileSync(path, 'latin1');
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return null;
        throw error instanceof PantheonError ? error : invalid(`${path} cannot be read.`, error);
      }
    },
    write: (key) => {
      const draft = `${path}.${process.pid}.draft`;
      try {
        try {
          writeDurably(draft, `${key}\n`);
          // A link, not a rename: a rename would replace what is there.
          linkSync(draft, path);
        } finally {
          rmSync(draft, { force: true });
        }
        syncFolder(dirname(path));
      } catch (cause) {
        const why = hasCode(cause, 'EEXIST') ? 'already holds something else; move it away' : 'cannot be made';
        throw invalid(`${path} ${why}.`, cause);
      }
    },
  };
}

function writeDurably(path: string, text: string): void {
  rmSync(path, { force: true });
  const file = openSync(path, 'wx', OWNER_ONLY);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** A new name in a folder outlives a power cut only once the folder itself is synced. Windows cannot, and need not. */
function syncFolder(path: string): void {
  if (process.platform === 'win32') return;
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function invalid(detail: string, cause?: unknown): PantheonError {
  return new PantheonError('invalid_setting', { field: 'ROOT_KEY_FILE', detail, cause });
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
