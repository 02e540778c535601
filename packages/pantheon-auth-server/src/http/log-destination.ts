/**
 * Where the lines of the log go: a file descriptor, in batches, beside the work. When nothing more fits there, lines are
 * lost and the service goes on. Ours because pino's own destination waits for ever at the end of the process when the
 * disk under the log is full.
 */
import { write, writeSync } from 'node:fs';

/** One write for a dozen lines when there are many… */
const BATCH_CHARACTERS = 4_096;
/** …and no line later than this when there are few. */
const BATCH_MS = 100;
/** Lines that wait behind a reader that has stopped. What comes then is lost. */
const WAITING_CHARACTERS_MAX = 1_048_576;

export class LogDestination {
  readonly #fd: number;
  #waiting = '';
  #isWriting = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(fd: number) {
    this.#fd = fd;
    process.once('exit', () => this.#flushAtEnd());
  }

  write(line: string): void {
    if (this.#waiting.length + line.length > WAITING_CHARACTERS_MAX) return;
    this.#waiting += line;
    if (this.#waiting.length >= BATCH_CHARACTERS) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), BATCH_MS).unref();
  }

  #flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#isWriting || this.#waiting === '') return;
    const batch = Buffer.from(this.#waiting, 'utf8');
    this.#waiting = '';
    this.#isWriting = true;
    this.#writeFrom(batch, 0);
  }

  #writeFrom(batch: Buffer, start: number): void {
    write(this.#fd, batch, start, batch.length - start, null, (error, written) => {
      // Whatever went wrong, there is nobody else to tell.
      if (error === null && start + written < batch.length) return this.#writeFrom(batch, start + written);
      this.#isWriting = false;
      this.#flush();
    });
  }

  #flushAtEnd(): void {
    try {
      if (this.#waiting !== '') writeSync(this.#fd, this.#waiting);
    } catch {
      // The process ends all the same.
    }
  }
}
