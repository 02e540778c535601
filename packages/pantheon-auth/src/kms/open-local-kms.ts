/** Finds the master key, makes it together with a new database, and proves that it is the one the data was sealed with. */
import { PantheonError } from '../foundation/errors.ts';
import type { KeyEncryption } from './key-encryption.ts';
import { LocalKms } from './local-kms.ts';
import { databaseMissing, isInFolder, masterKeyPath } from './lost-database.ts';
import { checkCanary, createMasterKeyFile, loadMasterKeyFile, parseMasterKey, sealCanary } from './master-key.ts';

/** Facts about the database that every process shares. Implemented over SQL. */
export interface MetaStore {
  get(name: string): Promise<string | null>;
  /** Writes it unless it is there, and answers what is there. */
  insertOnce(name: string, value: string): Promise<string>;
}

export interface LocalKmsOptions {
  /** Where a master key lies that is not given; null: it must be given, and is never made. */
  readonly dataDir: string | null;
  readonly masterKey?: string;
  readonly masterKeyFile?: string;
  /** For messages; null where the database is no file. */
  readonly databaseFile: string | null;
  /** Whether nothing was ever written to the database. */
  readonly isNew: boolean;
  readonly logger: { warn(fields: object, message: string): void };
}

const CANARY = 'canary';
/** Written before the file is, so that a first start that was cut off knows the file for its own. */
const MADE_HERE = 'masterKeyMadeHere';

/** @throws PantheonError `master_key_missing`, `master_key_mismatch`, `database_missing`, `invalid_setting`. */
export async function openLocalKms(facts: MetaStore, options: LocalKmsOptions): Promise<KeyEncryption> {
  const canary = await facts.get(CANARY);
  if (canary === null && !options.isNew) {
    // Nobody could tell the right master key from a wrong one, and a new one would open nothing.
    const detail = 'The canary of this database is missing. Restore a backup.';
    throw new PantheonError('master_key_mismatch', { detail });
  }
  const kms = new LocalKms(await masterKey(facts, options, canary === null));
  const sealed = canary ?? (await facts.insertOnce(CANARY, Buffer.from(await sealCanary(kms)).toString('base64')));
  await checkCanary(kms, Buffer.from(sealed, 'base64'));
  return kms;
}

/** It is made only together with a new database: for an old one, another key would open nothing. */
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
    // After the file was found: a first start beside this one writes the fact before the file.
    const isStrange = isNew && dataDir !== null && isInFolder(dataDir, path) && (await facts.get(MADE_HERE)) === null;
    if (isStrange) throw databaseMissing(path, databaseFile ?? dataDir);
    return found;
  } catch (error) {
    const missing = error instanceof PantheonError && error.code === 'master_key_missing';
    // A file that was named is expected to be there.
    if (!missing || !isNew || options.masterKeyFile !== undefined) throw error;
  }
  await facts.insertOnce(MADE_HERE, 'yes');
  try {
    return await createMasterKeyFile(path);
  } catch (error) {
    // Another process started at the same moment, and was first.
    if (error instanceof PantheonError && error.code === 'already_exists') return load();
    throw error;
  }
}
