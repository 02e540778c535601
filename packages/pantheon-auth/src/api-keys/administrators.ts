/** The keys that can administer. Losing the last one would lock everybody out. */
import { isActive, type KeyRecord, type KeySettings } from '../domain/key.ts';
import { administers } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { RequiredRow } from '../events/ledger.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyStorage } from './key-storage.ts';

export class Administrators {
  readonly #storage: KeyStorage;
  readonly #clock: Clock;

  constructor(deps: { readonly storage: KeyStorage; readonly clock: Clock }) {
    this.#storage = deps.storage;
    this.#clock = deps.clock;
  }

  /**
   * Finds another administrator, who must still be as found when this one goes: so two who go at once do not both go.
   *
   * @throws PantheonError `last_administrator` when there is none and it is not forced.
   */
  async withoutThis(record: KeyRecord, force = false): Promise<readonly RequiredRow[]> {
    if (force || record.tenantId !== SYSTEM_TENANT || !administers(record.permissions)) return [];
    for (const id of await this.#storage.administrators(this.#clock.now())) {
      const other = id === record.id ? null : await this.#soundAdministrator(id);
      if (other !== null) {
        return [{ table: 'api_keys', where: { id, tenant_id: other.tenantId }, revision: other.revision }];
      }
    }
    throw new PantheonError('last_administrator');
  }

  /** Null for one that is none any more, and for one whose row does not open: it could not administer. */
  async #soundAdministrator(id: string): Promise<KeyRecord | null> {
    try {
      const record = (await this.#storage.find(id))?.record ?? null;
      return record !== null && isActive(record, this.#clock.now()) && administers(record.permissions) ? record : null;
    } catch (error) {
      if (error instanceof PantheonError && error.code === 'key_quarantined') return null;
      throw error;
    }
  }
}

/** Whether an administrator would stop being one by this, now or later. */
export function endsAdministering(record: KeyRecord, { permissions, expiresAt, notBefore }: KeySettings): boolean {
  const isDated = expiresAt !== record.expiresAt || notBefore !== record.notBefore;
  return !administers(permissions) || (isDated && (expiresAt !== null || notBefore !== null));
}
