/** The keys that a key created, and those that they created: what a revocation with `cascade` takes along. */
import type { KeyRecord } from '../domain/key.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Clock } from '../foundation/clock.ts';
import type { TenantStorage } from '../tenants/tenant-storage.ts';
import type { KeyListQuery } from './key-rows.ts';
import type { KeyStorage } from './key-storage.ts';

/** Keys, or tenants, read at once. */
const READ_AT_ONCE = 100;
const EVERY_KEY = { userId: null, state: null, environment: null, text: null } as const;

export class KeyDescendants {
  readonly #storage: KeyStorage;
  readonly #tenants: TenantStorage;
  readonly #clock: Clock;

  constructor(deps: {
    readonly storage: KeyStorage;
    readonly tenants: TenantStorage;
    readonly clock: Clock;
  }) {
    this.#storage = deps.storage;
    this.#tenants = deps.tenants;
    this.#clock = deps.clock;
  }

  /** Parents first: a key that is revoked makes no more children while we look for them. */
  async revoke(
    tenantId: string,
    id: string,
    revoke: (tenantId: string, keyId: string) => Promise<unknown>,
  ): Promise<void> {
    const tenantIds = await this.#tenantsOfChildren(tenantId);
    const parents = [id];
    for (let parent = parents.shift(); parent !== undefined; parent = parents.shift()) {
      for (const ofTenant of tenantIds) {
        for await (const child of this.#childrenOf(parent, ofTenant)) {
          await revoke(ofTenant, child);
          parents.push(child);
        }
      }
    }
  }

  /** Only keys of the system make keys in other tenants. */
  async #tenantsOfChildren(tenantId: string): Promise<readonly string[]> {
    if (tenantId !== SYSTEM_TENANT) return [tenantId];
    const ids: string[] = [];
    for (let found = READ_AT_ONCE; found === READ_AT_ONCE; ) {
      const tenants = await this.#tenants.list(ids.at(-1) ?? null, READ_AT_ONCE);
      for (const { id } of tenants) ids.push(id);
      found = tenants.length;
    }
    return ids;
  }

  /** Also those that do not open: they are named, and can be revoked. */
  async *#childrenOf(createdBy: string, tenantId: string): AsyncGenerator<string> {
    let after: KeyListQuery['after'] = null;
    do {
      const now = this.#clock.now();
      const found = await this.#storage.list({ ...EVERY_KEY, tenantId, createdBy, after, limit: READ_AT_ONCE, now });
      const children: readonly Pick<KeyRecord, 'id' | 'createdAt'>[] = found.map((key) =>
        'record' in key ? key.record : key,
      );
      for (const { id } of children) yield id;
      const last = children.at(-1);
      after = found.length < READ_AT_ONCE || last === undefined ? null : { createdAt: last.createdAt, id: last.id };
    } while (after !== null);
  }
}
