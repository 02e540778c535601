/** Finds the master key, or creates it together with a new database, and checks that it is the right one. */
import { PantheonError } from '../foundation/errors.ts';
import type { KeyEncryption } from './key-encryption.ts';
import { LocalKms } from './local-kms.ts';
import { databaseMissing, isInFolder, masterKeyPath } from './lost-database.ts';
import { checkCanary, createMasterKeyFile, loadMasterKeyFile, parseMasterKey, sealCanary } from './master-key.ts';

/** The port for named values in the database that every process shares. Implemented in `storage/rows/`. */
export interface MetaStore {
  get(name: string): Promise<string | null>;
  /** Writes a value unless one exists, and returns the stored value. */
  insertOnce(name: string, value: string): Promise<string>;
}

export interface LocalKmsOptions {
  /** The folder of the master key file if none is given; null: the master key must be given and is never created. */
  readonly dataDir: string | null;
  readonly masterKey?: string;
  readonly masterKeyFile?: string;
  /** For error messages; null if the database is not a file. */
  readonly databaseFile: string | null;
  /** Whether the database is new. */
  readonly isNew: boolean;
  readonly logger: { warn(fields: object, message: string): void };
}

const CANARY = 'canary';
/** Written before the key file, so that a start after an interrupted first start recognises the file as its own. */
const MADE_HERE = 'masterKeyMadeHere';

/** @throws PantheonError `master_key_missing`, `master_key_mismatch`, `database_missing`, `invalid_setting`. */
export async function openLocalKms(facts: MetaStore, options: LocalKmsOptions): Promise<KeyEncryption> {
  const canary = await facts.get(CANARY);
  if (canary === null && !options.isNew) {
    // Without the known value a wrong master key could not be detected.
    const detail = 'The known value that checks the master key is missing in this database. Restore a backup.';
    throw new PantheonError('master_key_mismatch', { detail });
  }
  const kms = new LocalKms(await masterKey(facts, options, canary === null));
  const sealed = canary ?? (await facts.insertOnce(CANARY, Buffer.from(await sealCanary(kms)).toString('base64')));
  await checkCanary(kms, Buffer.from(sealed, 'base64'));
  return kms;
}

/** Creates the master key only for a new database: an existing one cannot be decrypted with another key. */
async function masterKey(facts: MetaStore, options: LocalKmsOptions, isNew: boolean): Promise<Buffer> {
  const { logger, dataDir, databaseFile } = options;
  if (options.masterKey !== undefined) {
    if (options.masterKeyFile !== undefined) {
      const detail = 'Give masterKey or masterKeyFile, not both.';
      throw new PantheonError('invalid_setting', { field: 'masterKey', detail });
    }
    logger.warn({}, 'the master key comes from the environment, where other processes may read it; a file is safer');
    return parseMasterKey(options.masterKey);
  }
  const path = options.masterKeyFile ?? (dataDir === null ? null : masterKeyPath(dataDir));
  if (path === null) throw new PantheonError('master_key_missing', { field: 'masterKeyFile' });
  const load = (): Promise<Buffer> => loadMasterKeyFile(path, (warning) => logger.warn({}, warning));
  try {
    const found = await load();
    // Checked after the file was found, because another first start writes this value before the file.
    const isStrange = isNew && dataDir !== null && isInFolder(dataDir, path) && (await facts.get(MADE_HERE)) === null;
    if (isStrange) throw databaseMissing(path, databaseFile ?? dataDir);
    return found;
  } catch (error) {
    const missing = error instanceof PantheonError && error.code === 'master_key_missing';
    // A file named in the options must exist.
    if (!missing || !isNew || options.masterKeyFile !== undefined) throw error;
  }
  await facts.insertOnce(MADE_HERE, 'yes');
  try {
    return await createMasterKeyFile(path);
  } catch (error) {
    // Another process created it at the same time.
    if (error instanceof PantheonError && error.code === 'already_exists') return load();
    throw error;
  }
}
