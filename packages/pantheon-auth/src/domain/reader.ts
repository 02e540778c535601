/** What is read for a caller, and its queue position: the tenant of the caller's key, and the key. */
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { Action, Caller } from './key-policy.ts';

/** In-process code that reads without a key. */
const PROCESS = 'process';

/** A read for a caller. */
export interface ShownRead {
  readonly by: Caller;
  /** The action whose permission is needed. Null: none, as for the caller's own key. */
  readonly action: Action | null;
  readonly tenantId: string;
  /** Aborting it removes the read from the queue. */
  readonly signal?: AbortSignal | undefined;
}

/** Runs reads whose result is shown to a caller. Implemented by `commands/caller-reads.ts`. */
export interface ShownReads {
  /**
   * Runs `read` in turn, for a caller that may still act. `read` must not call this again, because it could wait for itself.
   *
   * @throws PantheonError `overloaded`; the code of the denial when the caller may no longer act; the reason of `signal`.
   */
  run<T>(shown: ShownRead, read: () => Promise<T>): Promise<T>;
}

/** A system key that reads keys of another tenant waits in the queue of the system tenant. */
export function readerOf({ authority }: Pick<Caller, 'authority'>, tenantId: string): TurnKey {
  return authority.kind === 'key'
    ? { group: authority.tenantId, member: authority.keyId }
    : { group: tenantId, member: PROCESS };
}
