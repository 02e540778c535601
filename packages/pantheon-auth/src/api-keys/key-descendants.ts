/** Revokes the keys that a key created, and those that they created, for `cascade`. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { ReadTurns } from '../foundation/read-turns.ts';
import type { ChildKey, KeyPlace, KeyRows } from './key-rows.ts';

/** Keys read at once. */
const READ_AT_ONCE = 1_000;

export class KeyDescendants {
  readonly #rows: Pick<KeyRows, 'childrenOf'>;
  readonly #readTurns: ReadTurns;

  constructor(deps: { readonly rows: Pick<KeyRows, 'childrenOf'>; readonly readTurns: ReadTurns }) {
    this.#rows = deps.rows;
    this.#readTurns = deps.readTurns;
  }

  /**
   * Parents first, so that a revoked key creates no more keys while its children are searched. Each revocation is its
   * own commit, after which the event loop continues, so that a cascade over thousands of keys does not block other
   * requests.
   *
   * @returns Whether all were revoked. It stops when `isOver` returns true, and continues after one that cannot be revoked.
   */
  async revoke(
    { tenantId, keyId, reader }: { readonly tenantId: string; readonly keyId: string; readonly reader: TurnKey },
    revoke: (tenantId: string, keyId: string) => Promise<boolean>,
    isOver: () => boolean,
  ): Promise<boolean> {
    const parents = [keyId];
    let areAll = true;
    for (let parent = parents.shift(); parent !== undefined; parent = parents.shift()) {
      for await (const child of this.#childrenOf(parent, reader)) {
        // Only keys of the system tenant create keys in other tenants.
        if (child.tenantId !== tenantId && tenantId !== SYSTEM_TENANT) continue;
        if (isOver()) return false;
        areAll = (await revoke(child.tenantId, child.id)) && areAll;
        parents.push(child.id);
        // A key that was already revoked causes no commit and so no pause: yield explicitly.
        await nextTurn();
      }
    }
    return areAll;
  }

  /**
   * Children in any tenant, because keys of the system tenant create keys in others. Includes damaged keys, which can
   * be revoked.
   */
  async *#childrenOf(parent: string, reader: TurnKey): AsyncGenerator<ChildKey> {
    let after: KeyPlace | null = null;
    do {
      const place: KeyPlace | null = after;
      const children: readonly ChildKey[] = await this.#readTurns.run(reader, undefined, () =>
        this.#rows.childrenOf(parent, place, READ_AT_ONCE),
      );
      yield* children;
      after = children.length < READ_AT_ONCE ? null : (children.at(-1) ?? null);
    } while (after !== null);
  }
}
