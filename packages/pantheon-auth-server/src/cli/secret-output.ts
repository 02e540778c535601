/** A file for a new secret: its owner's alone, never one that was there, and open before the secret exists. */
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

  /** @throws PantheonError `invalid_request` when it exists or cannot be made: said before there is a secret to lose. */
  static async claim(path: string): Promise<SecretFile> {
    try {
      return new SecretFile(path, await open(path, 'wx', OWNER_ONLY));
    } catch (cause) {
      const exists = hasCode(cause, 'EEXIST');
      const why = exists ? 'is there already, and is not replaced' : 'cannot be made';
      throw new PantheonError('invalid_request', { field: 'out', detail: `The file ${path} ${why}`, cause });
    }
  }

  /** Durable when it answers. */
  async write(secret: string): Promise<void> {
    await this.#file.writeFile(`${secret}\n`);
    await this.#file.sync();
    await this.#file.close();
  }

  /** There is no secret: nothing stays behind. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
}
