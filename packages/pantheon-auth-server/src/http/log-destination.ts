/**
 * Writes log lines to a file descriptor, asynchronously and in batches. When the descriptor accepts no more, lines are
 * dropped and the service continues. Used instead of pino's own destination, which never lets the process end when the
 * disk of the log is full.
 */
import { write, writeSync } from 'node:fs';

/** At many lines: one write per so many characters. */
const BATCH_CHARACTERS = 4_096;
/** At few lines: each is written within this time. */
const BATCH_MS = 100;
/** The most characters that wait when the reader is stuck. Further lines are dropped. */
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
      // An error of the log itself cannot be logged anywhere.
      if (error === null && start + written < batch.length) return this.#writeFrom(batch, start + written);
      this.#isWriting = false;
      this.#flush();
    });
  }

  #flushAtEnd(): void {
    try {
      if (this.#waiting !== '') writeSync(this.#fd, this.#waiting);
    } catch {
      // Ignored: the process ends anyway.
    }
  }
}
