/**
 * Finds another administrator before one is revoked or loses its rights. Which keys count as administrators is in
 * `domain/administrator.ts`.
 */
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
   * Finds another administrator and returns its row as a precondition, so that two administrators that revoke each
   * other at once do not both succeed. With `force` none is required; the callers check whether the caller may use
   * `force`.
   *
   * @throws PantheonError `last_administrator` when there is no other one and `force` is not set.
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

  /** Null for a key that no longer counts, and for a damaged one, which cannot administer. */
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
