/**
 * The only path of changes of access state: authorize, confirm the caller, load, decide, commit, retry on conflict.
 *
 * Optional steps around it: `idempotency-service.ts` executes a repeated request once; `propagation.ts` waits until the
 * change is effective on every node.
 */
import type { ConfirmedCaller } from '../domain/delegation.ts';
import type { AuditContext } from '../domain/event.ts';
import type { Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Precondition } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import { authorize, type CallerGuard, confirmCaller, type Intent, unconditional } from './caller.ts';

/** The most attempts after conflicts. More would mean that a program changes the row continuously. */
export const ATTEMPTS_MAX = 5;

/** A change with preconditions. */
export interface Conditional {
  /** What else must not have changed since it was read. */
  readonly preconditions?: readonly Precondition[];
}

export interface Command<Loaded, Change extends Conditional> extends Intent {
  /** Reads the record to change. Called again for each attempt. */
  readonly load: () => Promise<Loaded>;
  /** Computes the change from the loaded record, for the confirmed caller. Writes nothing. Null: nothing to change. */
  readonly decide: (loaded: Loaded, caller: ConfirmedCaller) => Change | null | Promise<Change | null>;
  /** Commits in one transaction. The preconditions are those of the change and those of the confirmed caller. */
  readonly commit: (change: Change & Required<Conditional>) => Promise<void>;
  /** Invalidates the record in this node's caches, before the answer (I4). */
  readonly invalidate?: (loaded: Loaded) => void;
  /** The number of attempts; 1 for a decision that must not be repeated. Default: {@link ATTEMPTS_MAX}. */
  readonly attemptsMax?: number;
  /** May throw a more precise error than `conflict`, when there is no further attempt. */
  readonly explainConflict?: () => Promise<void>;
}

export interface Outcome<Loaded, Change> {
  /** The record that the change started from. */
  readonly loaded: Loaded;
  /** Null: nothing had to be changed. */
  readonly change: Change | null;
}

/**
 * @throws PantheonError `insufficient_permissions`, `not_found`; the code of the denial when the caller may no longer
 * act; `conflict` after too many conflicts; errors of `load`, `decide` and `commit`.
 */
export async function runCommand<Loaded, Change extends Conditional>(
  command: Command<Loaded, Change>,
  guard: CallerGuard,
): Promise<Outcome<Loaded, Change>> {
  const { attemptsMax = ATTEMPTS_MAX } = command;
  authorize(command, command.by);
  for (let attempt = 1; ; attempt += 1) {
    const { caller, preconditions: ofCaller, isFresh } = await confirmCaller(command, guard);
    const loaded = await command.load();
    const change = await command.decide(loaded, caller);
    if (change === null) {
      // Nothing to change. Another node may have made the change just now, so this node's cache may be outdated.
      command.invalidate?.(loaded);
      // The answer shows the record, and no commit checks the caller.
      if (!isFresh()) await confirmCaller(command, guard, 'fresh');
      return { loaded, change };
    }
    try {
      await command.commit({ ...change, preconditions: [...ofCaller, ...(change.preconditions ?? [])] });
      return { loaded, change };
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (attempt < attemptsMax) continue;
      await command.explainConflict?.();
      throw error;
    } finally {
      // Also when the outcome is unknown, because the cache may be outdated then.
      command.invalidate?.(loaded);
    }
  }
}

/** Runs a command of the service itself, at its start. `auditContext` is recorded in the log. */
export function runAsProcess<Loaded, Change extends Conditional>(
  auditContext: AuditContext,
  command: Omit<Command<Loaded, Change>, keyof Intent>,
): Promise<Outcome<Loaded, Change>> {
  const by: Caller = { authority: { kind: 'process' }, auditContext };
  const guard: CallerGuard = { confirm: async () => unconditional(by) };
  return runCommand({ ...command, by, action: null, tenantId: SYSTEM_TENANT }, guard);
}

function isConflict(error: unknown): boolean {
  return error instanceof PantheonError && error.code === 'conflict';
}
