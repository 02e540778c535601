/**
 * Lists, searches and reports of one tenant run a few at a time, so that a tenant that asks for many waits for itself and
 * not the others for it.
 */
import { PantheonError } from './errors.ts';

/** A search may look at thousands of rows: two at once leave most of the store to everybody else. */
export const READS_AT_ONCE_MAX = 2;
/** Of one tenant. Who has this many open requests for lists does not read the answers. */
export const READS_WAITING_MAX = 100;
const RETRY_AFTER_SECONDS = 1;

/** The reads of one tenant. */
interface Line {
  running: number;
  readonly waiting: Set<() => void>;
}

export class ReadTurns {
  /** Tenants that read now. One that does not has no entry. */
  readonly #lines = new Map<string, Line>();

  /**
   * Runs `read` when it is its turn. `signal` takes it out of the line: what was given up is never begun.
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

  /** The place goes to the one who has waited longest. */
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
    const detail = 'Too many lists, searches and reports of this tenant are being read. Wait for their answers.';
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
