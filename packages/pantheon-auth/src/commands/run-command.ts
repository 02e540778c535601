/**
 * The path of every change of access state, from top to bottom: may the caller, are they still who they were, what is
 * stored, what shall it become, commit, and again when somebody else was faster. There is no other one.
 *
 * Around it, where it is asked for: `idempotency-service.ts` carries a repeated request out once, `propagation.ts` waits
 * until the change holds on every node.
 */
import type { ConfirmedCaller } from '../domain/delegation.ts';
import type { AuditContext } from '../domain/event.ts';
import type { Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Precondition } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import { authorize, type CallerGuard, confirmCaller, type Intent } from './caller.ts';

/** What somebody else changed in between is read again, this often. More often is a row that a machine changes. */
export const ATTEMPTS_MAX = 5;

/** What is to be committed. */
export interface Conditional {
  /** What else must still be as it was read. */
  readonly preconditions?: readonly Precondition[];
}

export interface Command<Loaded, Change extends Conditional> extends Intent {
  /** Reads what the change starts from: anew before each attempt. */
  readonly load: () => Promise<Loaded>;
  /** Decides on what was read, for the caller as they are now. Writes nothing. Null: it already is so. */
  readonly decide: (loaded: Loaded, caller: ConfirmedCaller) => Change | null | Promise<Change | null>;
  /** In one transaction. The preconditions are those of the change, and that the caller still is who was confirmed. */
  readonly commit: (change: Change & Required<Conditional>) => Promise<void>;
  /** Drops what this node remembers of it, before the answer (I4). */
  readonly invalidate?: (loaded: Loaded) => void;
  /** For what must not be decided a second time. Default: {@link ATTEMPTS_MAX}. */
  readonly attemptsMax?: number;
  /** Throws what tells the caller more than `conflict`, when it is not tried again. */
  readonly explainConflict?: () => Promise<void>;
}

export interface Outcome<Loaded, Change> {
  /** What the change started from. */
  readonly loaded: Loaded;
  /** Null: nothing had to be changed. */
  readonly change: Change | null;
}

/**
 * @throws PantheonError `insufficient_permissions`, `not_found`; the code of the denial when the caller may no longer act;
 * `conflict` when others keep being faster; what `load`, `decide` and `commit` throw.
 */
export async function runCommand<Loaded, Change extends Conditional>(
  command: Command<Loaded, Change>,
  guard: CallerGuard,
): Promise<Outcome<Loaded, Change>> {
  const { attemptsMax = ATTEMPTS_MAX } = command;
  authorize(command, command.by);
  for (let attempt = 1; ; attempt += 1) {
    const { caller, preconditions: ofCaller } = await confirmCaller(command, guard);
    const loaded = await command.load();
    const change = await command.decide(loaded, caller);
    if (change === null) {
      // It already is so, by somebody else perhaps, of whom this node has not heard: what it remembers may be older.
      command.invalidate?.(loaded);
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
      // Also when the outcome is unknown: what is remembered may be wrong now.
      command.invalidate?.(loaded);
    }
  }
}

/** What the service does for itself, when it starts. `auditContext`: what the log says of it. */
export function runAsProcess<Loaded, Change extends Conditional>(
  auditContext: AuditContext,
  command: Omit<Command<Loaded, Change>, keyof Intent>,
): Promise<Outcome<Loaded, Change>> {
  const by: Caller = { authority: { kind: 'process' }, auditContext };
  const guard: CallerGuard = { confirm: async () => ({ caller: { ...by, own: null }, preconditions: [] }) };
  return runCommand({ ...command, by, action: null, tenantId: SYSTEM_TENANT }, guard);
}

function isConflict(error: unknown): boolean {
  return error instanceof PantheonError && error.code === 'conflict';
}
