/** The keys that can administer. Losing the last one would lock everybody out. */
import type { KeyRecord, KeySettings } from '../domain/key.ts';
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
    const found = await this.#storage.administrators(this.#clock.now());
    const otherId = found.find((id) => id !== record.id);
    const other = otherId === undefined ? null : await this.#storage.find(otherId);
    if (other === null || other.record.state.kind !== 'active') throw new PantheonError('last_administrator');
    const { id, tenantId, revision } = other.record;
    return [{ table: 'api_keys', where: { id, tenant_id: tenantId }, revision }];
  }
}

/** Whether an administrator would stop being one by this, now or later. */
export function endsAdministering(record: KeyRecord, { permissions, expiresAt, notBefore }: KeySettings): boolean {
  const isDated = expiresAt !== record.expiresAt || notBefore !== record.notBefore;
  return !administers(permissions) || (isDated && (expiresAt !== null || notBefore !== null));
}
