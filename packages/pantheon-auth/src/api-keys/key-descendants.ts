/** The keys that a key created, and those that they created: what a revocation with `cascade` takes along. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { ChildKey, KeyPlace, KeyRows } from './key-rows.ts';

/** Keys read at once. */
const READ_AT_ONCE = 1_000;

export class KeyDescendants {
  readonly #rows: Pick<KeyRows, 'childrenOf'>;

  constructor(deps: { readonly rows: Pick<KeyRows, 'childrenOf'> }) {
    this.#rows = deps.rows;
  }

  /**
   * Parents first: a key that is revoked makes no more children while we look for them. Each is a commit of its own, after
   * which the event loop turns, so that a cascade over thousands of keys holds nobody up.
   */
  async revoke(
    tenantId: string,
    id: string,
    revoke: (tenantId: string, keyId: string) => Promise<unknown>,
  ): Promise<void> {
    const parents = [id];
    for (let parent = parents.shift(); parent !== undefined; parent = parents.shift()) {
      for await (const child of this.#childrenOf(parent)) {
        // Only keys of the system make keys in other tenants.
        if (child.tenantId !== tenantId && tenantId !== SYSTEM_TENANT) continue;
        await revoke(child.tenantId, child.id);
        parents.push(child.id);
        // One that had been revoked before makes no commit, and nothing else that waits.
        await nextTurn();
      }
    }
  }

  /** In any tenant: keys of the system make keys in others. Also those that do not open: they can be revoked. */
  async *#childrenOf(parent: string): AsyncGenerator<ChildKey> {
    let after: KeyPlace | null = null;
    do {
      const children: readonly ChildKey[] = await this.#rows.childrenOf(parent, after, READ_AT_ONCE);
      yield* children;
      after = children.length < READ_AT_ONCE ? null : (children.at(-1) ?? null);
    } while (after !== null);
  }
}
