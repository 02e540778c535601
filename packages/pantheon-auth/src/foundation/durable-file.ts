/**
 * Writes a secret to a new file so that it survives a power failure. Only the owner can read the file, and an existing
 * file is never replaced. The errors are those of Node: their callers know which setting or option the path came from.
 */
import { type FileHandle, link, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { newId } from './ids.ts';

/** The mode of files that only their owner can read and write. */
export const OWNER_ONLY = 0o600;

/**
 * A new file for a secret, durable once written. {@link SecretFile.create} is for a secret that exists already;
 * {@link SecretFile.claim} shows that the file can be written before there is a secret that could be lost.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { hasCode, type RootKeyStore, SecretFile } from 'pantheon-auth';
 * const written = await readFile('root.key', 'latin1').catch((error: unknown) => {
 *   if (hasCode(error, 'ENOENT')) return null;
 *   throw error;
 * });
 * const store: RootKeyStore = { read: () => written, write: (key) => SecretFile.create('root.key', `${key}\n`) };
 * ```
 */
export class SecretFile {
  readonly path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /**
   * Writes a whole new file: other processes, and a start after a crash, see all of it or no file. Durable when this
   * returns.
   *
   * @throws the error of Node: `EEXIST` when the file exists.
   */
  static async create(path: string, text: string): Promise<void> {
    const draft = `${path}.${newId()}`;
    try {
      const file = await SecretFile.claim(draft);
      await file.write(text);
      // `link` and not `rename`, because a rename would replace a file that another process has just created and used.
      await link(draft, path);
    } finally {
      await rm(draft, { force: true });
    }
    await syncFolder(dirname(path));
  }

  /**
   * Creates the file, still empty. End with {@link write} or {@link discard}.
   *
   * @throws the error of Node: `EEXIST` when the file exists.
   */
  static async claim(path: string): Promise<SecretFile> {
    const file = new SecretFile(path, await open(path, 'wx', OWNER_ONLY));
    try {
      await syncFolder(dirname(path));
    } catch (error) {
      await file.discard();
      throw error;
    }
    return file;
  }

  /** Writes the text, which is durable when this returns, and closes the file. */
  async write(text: string): Promise<void> {
    try {
      await this.#file.writeFile(text);
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
  }

  /** Removes the file when there is no secret to write. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
}

/**
 * A new file name survives a power failure only after an fsync of the folder. Windows cannot sync a folder and does not
 * need to.
 */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
