/** Finds the administrator that remains when another one goes. Which keys count is `domain/administrator.ts`. */
import { isUsableAdministrator, mayBeLastAdministrator } from '../domain/administrator.ts';
import type { KeyRecord } from '../domain/key.ts';
import type { Precondition } from '../events/ledger.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type KeyStorage, keyAsRead } from './key-storage.ts';

export class Administrators {
  readonly #storage: KeyStorage;
  readonly #clock: Clock;

  constructor(deps: { readonly storage: KeyStorage; readonly clock: Clock }) {
    this.#storage = deps.storage;
    this.#clock = deps.clock;
  }

  /**
   * Finds another administrator, who must still be as found when this one goes: so two who go at once do not both go.
   * `force`: none is needed. Whether the caller may force is asked by the callers.
   *
   * @throws PantheonError `last_administrator` when there is none and it is not forced.
   */
  async requireAnotherAdmin(record: KeyRecord, force = false): Promise<readonly Precondition[]> {
    const now = this.#clock.now();
    if (force || !mayBeLastAdministrator(record, now)) return [];
    for (const id of await this.#storage.administrators(now)) {
      const other = id === record.id ? null : await this.#usable(id);
      if (other !== null) return [keyAsRead(other)];
    }
    throw new PantheonError('last_administrator');
  }

  /** Null for one that does not count any more, and for one whose row does not open: it could not administer. */
  async #usable(id: string): Promise<KeyRecord | null> {
    try {
      const record = (await this.#storage.find(id))?.record ?? null;
      return record !== null && isUsableAdministrator(record, this.#clock.now()) ? record : null;
    } catch (error) {
      if (error instanceof PantheonError && error.code === 'key_quarantined') return null;
      throw error;
    }
  }
}
