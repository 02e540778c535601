/**
 * Adds and retires signing keys, for callers with the permission on a key of the system tenant. The changes themselves
 * are in `signing-keyring.ts`.
 */
import { type CallerGuard, type ChangeOptions, PROCESS_CALLER } from '../commands/caller.ts';
import { runAsProcess, runCommand } from '../commands/run-command.ts';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { AuditContext } from '../domain/event.ts';
import type { SigningKeyRecord } from '../domain/signing-key.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import type { SigningKeyring } from './signing-keyring.ts';

export class SigningKeyManager {
  readonly #keyring: SigningKeyring;
  readonly #guard: CallerGuard;

  constructor(deps: { readonly keyring: SigningKeyring; readonly guard: CallerGuard }) {
    this.#keyring = deps.keyring;
    this.#guard = deps.guard;
  }

  active(): readonly SigningKeyRecord[] {
    return this.#keyring.active();
  }

  async add(algorithm: AsymmetricAlgorithm, { by = PROCESS_CALLER }: ChangeOptions = {}): Promise<{ kid: string }> {
    const { change } = await runCommand(
      {
        by,
        action: 'signing_keys.add',
        tenantId: SYSTEM_TENANT,
        load: () => this.#keyring.load(),
        decide: () => this.#keyring.decideAdd(algorithm, by.auditContext),
        commit: (added) => this.#keyring.commit(added),
      },
      this.#guard,
    );
    invariant(change !== null, 'a new signing key is always a change');
    return { kid: change.record.kid };
  }

  /** @throws PantheonError `not_found`, also for one that is already retired, because those are not in memory. */
  async retire(kid: string, { by = PROCESS_CALLER }: ChangeOptions = {}): Promise<void> {
    let wasFound = false;
    const { change } = await runCommand(
      {
        by,
        action: 'signing_keys.retire',
        tenantId: SYSTEM_TENANT,
        load: () => this.#keyring.load(),
        decide: () => {
          const current = this.#keyring.recordOf(kid);
          // Another node retired it at the same time.
          if (current === null && wasFound) return null;
          if (current === null) throw new PantheonError('not_found', { field: 'kid' });
          wasFound = true;
          return this.#keyring.decideRetire(current, by.auditContext);
        },
        commit: (retired) => this.#keyring.commit(retired),
      },
      this.#guard,
    );
    if (change !== null) await this.#keepSigner(change.record.algorithm, by.auditContext);
  }

  /**
   * Two nodes may retire the last two signing keys at the same time, each counting on the other one. A new one is then
   * created.
   */
  async #keepSigner(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<void> {
    await runAsProcess(by, {
      load: () => this.#keyring.load(),
      decide: () => (this.#keyring.hasSigner(algorithm) ? null : this.#keyring.decideAdd(algorithm, by)),
      commit: (added) => this.#keyring.commit(added),
    });
  }
}
