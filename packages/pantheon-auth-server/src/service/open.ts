/**
 * Opens the engine with the settings and creates the first administrator's key. Its key string is written to a file
 * that only its owner can read, durably before the key is created, and is never printed.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  acceptClock,
  type ClockAcceptance,
  createPantheonAuth,
  hasCode,
  type Logger,
  type PantheonAuth,
  type PantheonAuthOptions,
  PantheonError,
  type RootKeyStore,
  SecretFile,
  SYSTEM_TENANT,
} from 'pantheon-auth';
import type { Config } from '../settings/config.ts';
import { ENGINE_OPTIONS, namingSettings, POSTGRES_OPTIONS, REDIS_OPTIONS } from '../settings/option-names.ts';

/** `created`: this start created it. `missing`: there is none, and this start does not create one. */
export type RootKeyState = 'created' | 'existing' | 'missing';

/** A running engine. */
export interface OpenService {
  readonly auth: PantheonAuth;
  readonly rootKey: RootKeyState;
  close(): Promise<void>;
}

/** What opens it: a node that answers requests, or a single command, which must not compete with the nodes. */
type Opener = 'node' | 'command';

/**
 * Opens the engine. On SQLite the first start creates the root key. On PostgreSQL `pantheon-auth bootstrap` does, so
 * that an operator chooses where its file is.
 *
 * @throws PantheonError startup codes: `invalid_setting`, `master_key_missing`, `master_key_mismatch`,
 * `store_unusable`, `clock_in_doubt`, `database_missing`, `schema_too_new`, `schema_too_old`, `redis_required`;
 * `store_unavailable`, `store_read_only`.
 */
export async function openService(config: Config, logger: Logger, opener: Opener = 'node'): Promise<OpenService> {
  const auth = await openEngine(config, logger, opener);
  try {
    return { auth, rootKey: await rootKeyOf(config, auth), close: () => auth.close() };
  } catch (error) {
    await auth.close();
    throw error;
  }
}

/** Opens the engine without creating an administrator. */
export function openEngine(config: Config, logger: Logger, opener: Opener): Promise<PantheonAuth> {
  return withEngineOptions(config, logger, opener, createPantheonAuth);
}

/**
 * Compares the recorded time of a database that no node starts on (`clock_in_doubt`) with the clock. With `apply`, the
 * current time becomes the recorded time.
 */
export function acceptStoreClock(
  config: Config,
  logger: Logger,
  options: { readonly apply: boolean; readonly reason?: string },
): Promise<ClockAcceptance> {
  return withEngineOptions(config, logger, 'command', (engine) => acceptClock(engine, options));
}

function withEngineOptions<T>(
  config: Config,
  logger: Logger,
  opener: Opener,
  use: (options: PantheonAuthOptions) => Promise<T>,
): Promise<T> {
  return namingSettings(ENGINE_OPTIONS, () => withOptionsOf(config, logger, opener, use));
}

async function withOptionsOf<T>(
  config: Config,
  logger: Logger,
  opener: Opener,
  use: (options: PantheonAuthOptions) => Promise<T>,
): Promise<T> {
  const { database, dataDir, publicUrl, audience, masterKey, masterKeyFile, bounds } = config;
  const common = {
    issuer: publicUrl,
    ...bounds,
    ...(audience.length > 0 && { audience }),
    ...(masterKey !== undefined && { masterKey }),
    logger,
  };
  const limits = await sharedLimits(config);
  if (database.kind === 'sqlite') {
    assertNotLost(config.rootKeyFile, database.file);
    return use({
      ...common,
      dataDir,
      databaseFile: database.file,
      // A command would end before a large file is checked, so only the service checks the whole file.
      checkDatabase: opener === 'node',
      ...(masterKeyFile !== undefined && { masterKeyFile }),
      ...(limits !== null && { limits }),
    });
  }
  const isAlone = config.limits.kind === 'alone' && opener === 'node';
  const given = masterKey === undefined ? { masterKeyFile: existingMasterKeyFile(config) } : {};
  const source = await postgresOf(database);
  try {
    return await use({
      ...common,
      ...given,
      database: source,
      ...(!isAlone && { limits: limits ?? 'local' }),
    });
  } catch (error) {
    throw withRemedy(error);
  }
}

/**
 * Stops the start, before anything is created, when there is a root key file but no database.
 *
 * @throws PantheonError `database_missing`.
 */
function assertNotLost(rootKeyFile: string, databaseFile: string): void {
  // The key file is checked first: a first start of another process creates the database before the key file.
  if (!existsSync(rootKeyFile) || (statSync(databaseFile, { throwIfNoEntry: false })?.size ?? 0) > 0) return;
  const detail =
    `${rootKeyFile} is there, and its database ${databaseFile} is not. Is it the right DATA_DIR, and is its volume ` +
    'mounted? If the database was lost, restore it from a backup. To create a new database anyway, move the file away.';
  throw new PantheonError('database_missing', { field: 'ROOT_KEY_FILE', detail });
}

/** Runs the migrations and returns their names; null on SQLite, where they run at every start. */
export async function migrateStore(config: Config, logger: Logger): Promise<readonly string[] | null> {
  if (config.database.kind === 'sqlite') {
    await (await openEngine(config, logger, 'command')).close();
    return null;
  }
  try {
    const source = await postgresOf(config.database);
    return await namingSettings(ENGINE_OPTIONS, () => source.migrate());
  } catch (error) {
    throw withRemedy(error);
  }
}

/** Imported when needed, because loading the driver would slow every start on SQLite. */
async function postgresOf({ url, schema, poolMax }: Extract<Config['database'], { kind: 'postgres' }>) {
  const { postgres } = await import('pantheon-auth/postgres');
  return namingSettings(POSTGRES_OPTIONS, () =>
    postgres({
      url: url.reveal(),
      ...(schema !== undefined && { schema }),
      ...(poolMax !== undefined && { poolMax }),
    }),
  );
}

async function sharedLimits({ limits }: Config) {
  if (limits.kind !== 'redis') return null;
  const { redisLimits } = await import('pantheon-auth/redis');
  return namingSettings(REDIS_OPTIONS, () =>
    redisLimits({ url: limits.url.reveal(), onLimiterOutage: limits.onOutage }),
  );
}

/** On a shared database no master key is created, because each node would create a different one. */
function existingMasterKeyFile({ masterKeyFile, dataDir }: Config): string {
  const path = masterKeyFile ?? join(dataDir, 'master.key');
  if (existsSync(path)) return path;
  const how = 'openssl rand -base64 32 > master.key && chmod 600 master.key';
  const detail = `There is no ${path}. Give every node the same one. Make it once, for a new database: ${how}`;
  throw new PantheonError('master_key_missing', { field: 'MASTER_KEY_FILE', detail });
}

/** At a start, adds advice for the operator to an error that the database cannot be reached. */
function withRemedy(error: unknown): unknown {
  const isAway = error instanceof PantheonError && ['store_unavailable', 'store_read_only'].includes(error.code);
  if (!isAway || error.field !== null) return error;
  const what = (error.detail ?? '').replace(/\.$/, '');
  const remedy =
    error.code === 'store_unavailable' ? 'Check that PostgreSQL runs there and lets this machine in' : null;
  const detail = [what, remedy ?? 'Make DATABASE_URL lead to a server that can be written'].join('. ');
  return new PantheonError(error.code, { field: 'DATABASE_URL', detail, cause: error });
}

async function rootKeyOf({ database, rootKeyFile }: Config, auth: PantheonAuth): Promise<RootKeyState> {
  if (database.kind === 'sqlite') {
    const root = await auth.bootstrap(rootKeyStore(rootKeyFile));
    return root === null ? 'existing' : 'created';
  }
  const { items } = await auth.events.list(SYSTEM_TENANT, { type: 'key.created', limit: 1 });
  return items.length > 0 ? 'existing' : 'missing';
}

/** Many times the length of a key. A larger file is not a key file and is not read. */
const FILE_BYTES_MAX = 1_024;

/** Keeps the key string in a file that is written atomically and never replaces an existing file. */
export function rootKeyStore(path: string, field = 'ROOT_KEY_FILE'): RootKeyStore {
  const invalid = (detail: string, cause?: unknown): PantheonError =>
    new PantheonError(field === 'ROOT_KEY_FILE' ? 'invalid_setting' : 'invalid_request', { field, detail, cause });
  return {
    read: () => {
      try {
        const stat = statSync(path);
        if (!stat.isFile() || stat.size > FILE_BYTES_MAX) throw invalid(`${path} is not a root key file.`);
        return readFileSync(path, 'latin1');
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return null;
        throw error instanceof PantheonError ? error : invalid(`${path} cannot be read.`, error);
      }
    },
    write: async (key) => {
      try {
        await SecretFile.create(path, `${key}\n`);
      } catch (cause) {
        const why = hasCode(cause, 'EEXIST') ? 'already exists with other content; move it away' : 'cannot be created';
        throw invalid(`${path} ${why}.`, cause);
      }
    },
  };
}
