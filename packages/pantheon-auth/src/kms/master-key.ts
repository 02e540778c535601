/**
 * Reads or creates the master key, and checks at the start that it is the right one. The key is never printed, also not
 * in errors.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { SecretFile } from '../foundation/durable-file.ts';
import { hasCode, PantheonError } from '../foundation/errors.ts';
import { textFlaw } from '../foundation/written-text.ts';
import { GCM_KEY_BYTES } from './aes-gcm.ts';
import type { KeyEncryption, WrapContext } from './key-encryption.ts';

/** Sixteen times the longest text of a key. A larger file is not a key file and is not read. */
const FILE_BYTES_MAX = 1_024;
/**
 * 32 random bytes have fewer than 8 different values with probability 2⁻¹²⁰, so such a key is a placeholder like zeros
 * or `deadbeef…`.
 */
const DIFFERENT_BYTES_MIN = 8;
const READABLE_BY_OTHERS = 0o044;

/** The settings a master key can come from. */
export type MasterKeyOption = 'masterKey' | 'masterKeyFile';

/**
 * Reads 32 bytes from 64 hex digits, base64 or base64url; white space around them is allowed.
 *
 * @throws PantheonError `invalid_setting` that names the setting without its value.
 */
export function parseMasterKey(text: string, setting: MasterKeyOption = 'masterKey'): Buffer {
  const key = decode(text.trim());
  if (key === null) {
    const flaw = textFlaw(text.replace(/[\r\n\t ]+$/, ''));
    throw invalidSetting(setting, flaw ?? 'it must be 32 bytes as 64 hex digits, base64 or base64url');
  }
  if (new Set(key).size < DIFFERENT_BYTES_MIN)
    throw invalidSetting(setting, 'it is a placeholder and not a random key');
  return key;
}

/** Strict: the text must be exactly the encoding of 32 bytes. */
function decode(text: string): Buffer | null {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, 'hex');
  const unpadded = text.endsWith('=') ? text.slice(0, -1) : text;
  const key = Buffer.from(unpadded, 'base64url');
  const exact = [key.toString('base64url'), key.toString('base64').slice(0, -1)];
  return key.length === GCM_KEY_BYTES && exact.includes(unpadded) ? key : null;
}

/**
 * Reads the master key from a file. A symbolic link is followed, because Kubernetes mounts secrets with them.
 *
 * @throws PantheonError `master_key_missing` when there is no such file, `invalid_setting` when it holds no key.
 */
export async function loadMasterKeyFile(path: string, onWarning: (warning: string) => void): Promise<Buffer> {
  let file: FileHandle;
  try {
    // Without O_NONBLOCK opening a named pipe would wait for its other end.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) {
      throw new PantheonError('master_key_missing', { field: 'masterKeyFile', detail: `there is no ${path}`, cause });
    }
    throw invalidSetting('masterKeyFile', `${path} cannot be opened`, cause);
  }
  try {
    const { mode, size } = await regularFile(file, path);
    // Windows has no such mode bits and reports all of them as set.
    if (process.platform !== 'win32' && (mode & READABLE_BY_OTHERS) !== 0) {
      onWarning(`The master key file ${path} can be read by other users. Run: chmod 600 ${path}`);
    }
    const bytes = Buffer.alloc(size);
    const { bytesRead } = await file.read(bytes, 0, size, 0);
    return parseMasterKey(bytes.toString('latin1', 0, bytesRead), 'masterKeyFile');
  } finally {
    await file.close();
  }
}

async function regularFile(file: FileHandle, path: string): Promise<{ mode: number; size: number }> {
  const stat = await file.stat();
  if (!stat.isFile()) throw invalidSetting('masterKeyFile', `${path} is not a file`);
  if (stat.size > FILE_BYTES_MAX) throw invalidSetting('masterKeyFile', `${path} is too large to be a master key`);
  return stat;
}

/**
 * Creates a new master key in a file that only its owner can read, durable when this returns. No process reads half a
 * key, also not after a crash. An existing file is never replaced.
 *
 * @throws PantheonError `already_exists` when the file exists: load it instead. `invalid_setting` when it cannot be
 * created.
 */
export async function createMasterKeyFile(path: string): Promise<Buffer> {
  const key = randomBytes(GCM_KEY_BYTES);
  try {
    await SecretFile.create(path, `${key.toString('base64url')}\n`);
    return key;
  } catch (cause) {
    if (hasCode(cause, 'EEXIST')) {
      throw new PantheonError('already_exists', { detail: `there already is a master key file ${path}`, cause });
    }
    throw invalidSetting('masterKeyFile', `${path} cannot be created`, cause);
  }
}

/** As long as a data key, because a KMS may accept only that length. */
const CANARY: Buffer = Buffer.from('pantheon/master-key-canary/v1...', 'latin1');
/** No data key has this id, because data key ids have 16 characters. */
const CANARY_CONTEXT: WrapContext = { dataKeyId: 'canary', tenantId: 'system' };

/** Seals a known value under this master key, to be stored in the database. */
export function sealCanary(kms: KeyEncryption): Promise<Uint8Array> {
  return kms.wrap(CANARY, CANARY_CONTEXT);
}

/**
 * Checks at the start, before anything else is read or written, that this master key is the one that the database was
 * created with.
 *
 * @throws PantheonError `master_key_mismatch` when it is not. Errors of an unreachable KMS are passed on.
 */
export async function checkCanary(kms: KeyEncryption, canary: Uint8Array): Promise<void> {
  const opened = await kms.unwrap(canary, CANARY_CONTEXT);
  if (opened.length !== CANARY.length || !timingSafeEqual(opened, CANARY)) {
    throw new PantheonError('master_key_mismatch', { detail: 'the known value in the database does not match' });
  }
}

function invalidSetting(setting: MasterKeyOption, detail: string, cause?: unknown): PantheonError {
  return new PantheonError('invalid_setting', { field: setting, detail, cause });
}
