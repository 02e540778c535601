/**
 * Limits how many lists, searches and reports of one tenant run at once, so that a tenant with many requests waits for
 * its own and does not slow down others.
 */
import { PantheonError } from './errors.ts';

/** A search may read thousands of rows. Two at once leave most of the database to others. */
export const READS_AT_ONCE_MAX = 2;
/** The most waiting reads of one tenant. A client with more open requests is unlikely to read the answers. */
export const READS_WAITING_MAX = 100;
const RETRY_AFTER_SECONDS = 1;

/** The reads of one tenant. */
interface Line {
  running: number;
  readonly waiting: Set<() => void>;
}

export class ReadTurns {
  /** Tenants with reads in progress; others have no entry. */
  readonly #lines = new Map<string, Line>();

  /**
   * Runs `read` when it is its turn. Aborting `signal` removes it from the queue before it begins.
   *
   * @throws PantheonError `overloaded` when too many reads of this tenant wait; the reason of `signal`.
   */
  async run<T>(tenantId: string, signal: AbortSignal | undefined, read: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    const line = this.#lines.get(tenantId) ?? { running: 0, waiting: new Set() };
    this.#lines.set(tenantId, line);
    if (line.running < READS_AT_ONCE_MAX) line.running += 1;
    else await waitIn(line, signal);
    try {
      return await read();
    } finally {
      this.#passOn(tenantId, line);
    }
  }

  /** Starts the read that has waited longest. */
  #passOn(tenantId: string, line: Line): void {
    const [next] = line.waiting;
    if (next !== undefined) {
      line.waiting.delete(next);
      next();
      return;
    }
    line.running -= 1;
    if (line.running === 0) this.#lines.delete(tenantId);
  }
}

async function waitIn(line: Line, signal: AbortSignal | undefined): Promise<void> {
  if (line.waiting.size >= READS_WAITING_MAX) {
    const detail = 'Too many lists, searches and reports of this tenant are in progress. Wait for their answers.';
    throw new PantheonError('overloaded', { detail, retryAfterSeconds: RETRY_AFTER_SECONDS });
  }
  await new Promise<void>((resolve, reject) => {
    const giveUp = (): void => {
      line.waiting.delete(begin);
      reject(signal?.reason);
    };
    const begin = (): void => {
      signal?.removeEventListener('abort', giveUp);
      resolve();
    };
    signal?.addEventListener('abort', giveUp, { once: true });
    line.waiting.add(begin);
  });
}
