/**
 * Adds and retires tag secrets, for callers with the permission on a key of the system tenant. The changes themselves
 * are in `id-tags.ts`.
 */

import { authorize, type CallerGuard } from '../commands/caller.ts';
import { parseReason } from '../commands/input.ts';
import { runCommand } from '../commands/run-command.ts';
import { type ChangeOptions, callerIn } from '../domain/caller.ts';
import type { AuditContext } from '../domain/event.ts';
import { type Action, assertMay } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import type { ExposedKeys } from './exposed-keys.ts';
import type { IdTagChange, IdTagSecret, IdTags } from './id-tags.ts';

export interface IdTagChangeOptions extends ChangeOptions {
  readonly reason?: string;
}

/**
 * Manages the secrets that tag the ids of new keys. With the tag an id that was never issued is refused without reading
 * the database. If a secret may have leaked, add a new one, then retire the old one.
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
  readonly #exposed: ExposedKeys;

  constructor(deps: { readonly tags: IdTags; readonly guard: CallerGuard; readonly exposed: ExposedKeys }) {
    this.#tags = deps.tags;
    this.#exposed = deps.exposed;
    this.#guard = deps.guard;
  }

  /** Lists them, newest first, including retired ones, without the secrets themselves. */
  list(options: ChangeOptions = {}): readonly IdTagSecret[] {
    assertMay(callerIn(options), 'id_tags.read', SYSTEM_TENANT);
    return this.#tags.list();
  }

  /**
   * Creates a secret. New ids use it about a second later, when every node has read it.
   *
   * @throws PantheonError `not_allowed` when four are active.
   */
  async add(options: IdTagChangeOptions = {}): Promise<IdTagSecret> {
    const made = await this.#run('id_tags.add', options, (by) => this.#tags.decideAdd(by));
    invariant(made !== null, 'a new secret is always a change');
    return made;
  }

  /**
   * Retires a secret. Keys whose ids it tagged stay valid; their ids are looked up in the database, in the lane for
   * doubtful ids. Idempotent. Retiring the last active one creates a successor.
   *
   * @throws PantheonError `not_found`.
   */
  async retire(number: number, options: IdTagChangeOptions = {}): Promise<IdTagSecret> {
    const retired = await this.#run('id_tags.retire', options, (by) => this.#tags.decideRetire(number, by));
    const known = retired ?? this.#tags.list().find((one) => one.number === number);
    if (known === undefined) throw new PantheonError('not_found', { field: 'number' });
    return known;
  }

  async #run(
    action: Action,
    options: IdTagChangeOptions,
    decide: (by: AuditContext) => Promise<IdTagChange | null>,
  ): Promise<IdTagSecret | null> {
    const by = callerIn(options);
    const { reason } = options;
    const intent = { by, action, tenantId: SYSTEM_TENANT };
    authorize(intent, by);
    await this.#exposed.refuseIn({ reason }, by);
    const auditContext = { ...by.auditContext, reason: parseReason(reason) };
    const { change } = await runCommand(
      {
        ...intent,
        load: () => this.#tags.load(),
        decide: () => decide(auditContext),
        commit: (made) => this.#tags.commit(made),
      },
      this.#guard,
    );
    return change?.secret ?? null;
  }
}
