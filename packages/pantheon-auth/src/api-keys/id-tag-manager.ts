/** Who may change the list of tag secrets: keys of the system tenant with the permission. What a change does is `id-tags.ts`. */
import type { AuditContext } from '../domain/event.ts';
import { type Action, assertMay, type Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Precondition } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { CallerGuard } from './caller-guard.ts';
import type { IdTagSecret, IdTags } from './id-tags.ts';
import { parseReason } from './key-input.ts';
import { type ChangeOptions, PROCESS_CALLER } from './key-manager.ts';

export interface IdTagChangeOptions extends ChangeOptions {
  readonly reason?: string;
}

/** Somebody else changed the list, or the key of the caller, between reading and writing: read again, this often. */
const ATTEMPTS_MAX = 5;

/**
 * The secrets that tag the ids of new keys, so that an id which this store never issued is refused without asking the
 * database. Change them when one may have become known outside: add a new one, then retire the old one.
 *
 * @example
 * ```ts
 * import type { PantheonAuth } from 'pantheon-auth';
 *
 * async function replaceTagSecret(auth: PantheonAuth): Promise<void> {
 *   const [leaked] = auth.idTags.list();
 *   await auth.idTags.add({ reason: 'a copy of the database and the master key was lost' });
 *   if (leaked !== undefined) await auth.idTags.retire(leaked.number);
 * }
 * ```
 */
export class IdTagManager {
  readonly #tags: IdTags;
  readonly #guard: CallerGuard;

  constructor(deps: { readonly tags: IdTags; readonly guard: CallerGuard }) {
    this.#tags = deps.tags;
    this.#guard = deps.guard;
  }

  /** The newest first, retired ones included. Never the secrets themselves. */
  list(options: ChangeOptions = {}): readonly IdTagSecret[] {
    assertMay(options.by ?? PROCESS_CALLER, 'id_tags.read', SYSTEM_TENANT);
    return this.#tags.list();
  }

  /**
   * Makes a secret. New ids take it about a second later, when every node has read it.
   *
   * @throws PantheonError `not_allowed` when there are four that are not retired.
   */
  add(options: IdTagChangeOptions = {}): Promise<IdTagSecret> {
    return this.#change('id_tags.add', options, (by, preconditions) => this.#tags.add(by, preconditions));
  }

  /**
   * Ends a secret that somebody may know. Keys whose ids it tagged stay valid; their ids are looked up like those of keys
   * that are older than tags. Twice is success, and the last one gets a successor.
   *
   * @throws PantheonError `not_found`.
   */
  retire(number: number, options: IdTagChangeOptions = {}): Promise<IdTagSecret> {
    return this.#change('id_tags.retire', options, (by, preconditions) => this.#tags.retire(number, by, preconditions));
  }

  /** The caller as their key is now; again from the start when somebody else was faster. */
  async #change(
    action: Action,
    { by = PROCESS_CALLER, reason }: IdTagChangeOptions,
    change: (by: AuditContext, preconditions: readonly Precondition[]) => Promise<IdTagSecret>,
  ): Promise<IdTagSecret> {
    assertMay(by, action, SYSTEM_TENANT);
    const auditContext = { ...by.auditContext, reason: parseReason(reason) };
    for (let attempt = 1; ; attempt += 1) {
      const { caller, preconditions } = await this.#confirmed(by, action);
      try {
        return await change({ ...caller.auditContext, ...auditContext }, preconditions);
      } catch (error) {
        const isConflict = error instanceof PantheonError && error.code === 'conflict';
        if (!isConflict || attempt === ATTEMPTS_MAX) throw error;
      }
    }
  }

  async #confirmed(by: Caller, action: Action) {
    const standing = await this.#guard.confirm(by);
    assertMay(standing.caller, action, SYSTEM_TENANT);
    return standing;
  }
}
