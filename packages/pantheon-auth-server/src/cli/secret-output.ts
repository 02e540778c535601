/**
 * A file for a new secret: readable by its owner only, never an existing file, and opened before the secret is created.
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { hasCode, PantheonError } from 'pantheon-auth';

const OWNER_ONLY = 0o600;

export class SecretFile {
  readonly path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /**
   * @throws PantheonError `invalid_request` when it exists or cannot be created, before a secret is created that could
   * be lost.
   */
  static async claim(path: string): Promise<SecretFile> {
    try {
      return new SecretFile(path, await open(path, 'wx', OWNER_ONLY));
    } catch (cause) {
      const exists = hasCode(cause, 'EEXIST');
      const why = exists ? 'exists already and is not replaced' : 'cannot be created';
      throw new PantheonError('invalid_request', { field: 'out', detail: `The file ${path} ${why}`, cause });
    }
  }

  /** The secret is durable when this returns. */
  async write(secret: string): Promise<void> {
    await this.#file.writeFile(`${secret}\n`);
    await this.#file.sync();
    await this.#file.close();
  }

  /** Removes the file when no secret was created. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
}
