/**
 * A bounded queue in which nobody can stand in another's way: owners take turns, and so do the accounts of one owner. When
 * it is full, the longest line loses its last, whoever comes: a flood crowds out itself.
 */

interface OwnerLine<T> {
  /** In order of whose turn it is. */
  readonly accounts: Map<string, Set<T>>;
  length: number;
}

export class FairQueue<T> {
  readonly #lengthMax: number;
  /** In order of whose turn it is. */
  readonly #owners = new Map<string, OwnerLine<T>>();
  #length = 0;

  constructor(lengthMax: number) {
    this.#lengthMax = lengthMax;
  }

  /** Adds at the end of the account's line. Answers what had to leave for it, which may be the item itself. */
  push(owner: string, account: string, item: T): T | null {
    const line = this.#owners.get(owner) ?? { accounts: new Map<string, Set<T>>(), length: 0 };
    const items = line.accounts.get(account) ?? new Set<T>();
    items.add(item);
    line.accounts.set(account, items);
    line.length += 1;
    this.#owners.set(owner, line);
    this.#length += 1;
    return this.#length > this.#lengthMax ? this.#dropLast() : null;
  }

  /** Takes the next: the first of the account whose turn it is, of the owner whose turn it is. */
  shift(): T | undefined {
    for (const [owner, line] of this.#owners) {
      for (const [account, items] of line.accounts) {
        for (const item of items) {
          this.remove(owner, account, item);
          // Both go to the end of their lines, if anything of theirs is left.
          if (line.accounts.delete(account) && items.size > 0) line.accounts.set(account, items);
          if (this.#owners.delete(owner) && line.length > 0) this.#owners.set(owner, line);
          return item;
        }
      }
    }
    return undefined;
  }

  /** Takes out one that is no longer waiting. */
  remove(owner: string, account: string, item: T): void {
    const line = this.#owners.get(owner);
    const items = line?.accounts.get(account);
    if (line === undefined || items?.delete(item) !== true) return;
    line.length -= 1;
    this.#length -= 1;
    if (items.size === 0) line.accounts.delete(account);
    if (line.length === 0) this.#owners.delete(owner);
  }

  /** Of the longest account of the longest owner. Looked for only when the queue is full. */
  #dropLast(): T | null {
    const owner = longest(this.#owners, (line) => line.length);
    const account = owner === null ? null : longest(owner[1].accounts, (items) => items.size);
    const last = account === null ? undefined : Array.from(account[1]).at(-1);
    if (owner === null || account === null || last === undefined) return null;
    this.remove(owner[0], account[0], last);
    return last;
  }
}

function longest<V>(lines: ReadonlyMap<string, V>, lengthOf: (line: V) => number): readonly [string, V] | null {
  let found: readonly [string, V] | null = null;
  for (const entry of lines) if (found === null || lengthOf(entry[1]) >= lengthOf(found[1])) found = entry;
  return found;
}
