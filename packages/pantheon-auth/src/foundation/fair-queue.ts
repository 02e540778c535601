/**
 * A bounded fair queue: it takes items round-robin by group, and within a group round-robin by member. When it is full,
 * the item of the member with the most items is dropped, so a flood displaces its own items.
 */
import { invariant } from './errors.ts';

/** The group and member that an item belongs to. */
export interface TurnKey {
  /** Null is one group. */
  readonly group: string | null;
  readonly member: string;
}

/** The waiting items of one group, by member. The insertion order of the map is the round-robin order. */
interface GroupQueue<T> {
  readonly members: Map<string, T[]>;
  size: number;
}

export class FairQueue<T> {
  readonly #max: number;
  readonly #ofMemberMax: number;
  readonly #groups = new Map<string | null, GroupQueue<T>>();
  #size = 0;

  /**
   * @param max the most items in the queue.
   * @param ofMemberMax the most items of one member.
   */
  constructor(max: number, ofMemberMax: number = max) {
    this.#max = max;
    this.#ofMemberMax = ofMemberMax;
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Adds `item` at the end of its member. Returns the item that was dropped for it: null while there is room; otherwise
   * the newest item of the largest member of the largest group, or `item` itself when that is its own member, or when
   * no group would have more than its own.
   */
  push(item: T, key: TurnKey): T | null {
    const own = this.#groups.get(key.group);
    const ofMember = own?.members.get(key.member)?.length ?? 0;
    if (ofMember >= this.#ofMemberMax) return item;
    let turnedAway: T | null = null;
    if (this.#size >= this.#max) {
      const longest = this.#longest(key.group, own);
      if (longest.group === key.group && longest.items.length <= ofMember) return item;
      // Otherwise the existing group would have fewer items than the group of the new item.
      const left = (this.#groups.get(longest.group)?.size ?? 0) - 1;
      if (longest.group !== key.group && left < (own?.size ?? 0) + 1) return item;
      turnedAway = longest.items.at(-1) ?? null;
      this.#takeOut(longest.items.length - 1, longest);
    }
    this.#append(item, key);
    return turnedAway;
  }

  /** Takes the next item; null when the queue is empty. */
  shift(): T | null {
    const next = this.#groups.entries().next();
    if (next.done === true) return null;
    const [group, queue] = next.value;
    const [member, items] = firstOf(queue.members);
    const item = items[0] ?? null;
    this.#takeOut(0, { group, member, items });
    // A member and a group with remaining items move to the end of their round.
    if (queue.members.delete(member) && items.length > 0) queue.members.set(member, items);
    if (this.#groups.delete(group) && queue.size > 0) this.#groups.set(group, queue);
    return item;
  }

  /** Removes an item that no longer waits. */
  remove(item: T, { group, member }: TurnKey): void {
    const items = this.#groups.get(group)?.members.get(member) ?? [];
    const at = items.indexOf(item);
    if (at !== -1) this.#takeOut(at, { group, member, items });
  }

  #append(item: T, { group, member }: TurnKey): void {
    const queue = this.#groups.get(group) ?? { members: new Map<string, T[]>(), size: 0 };
    const items = queue.members.get(member) ?? [];
    items.push(item);
    queue.members.set(member, items);
    queue.size += 1;
    this.#groups.set(group, queue);
    this.#size += 1;
  }

  #takeOut(at: number, { group, member, items }: TurnKey & { readonly items: T[] }): void {
    const queue = this.#groups.get(group);
    invariant(queue !== undefined, 'what waits is of a group that waits');
    items.splice(at, 1);
    queue.size -= 1;
    this.#size -= 1;
    if (items.length === 0) queue.members.delete(member);
    if (queue.size === 0) this.#groups.delete(group);
  }

  /** The largest member of the largest group. Among equally large groups, the group of the new item. */
  #longest(own: string | null, ownQueue: GroupQueue<T> | undefined): TurnKey & { readonly items: T[] } {
    let [group, queue] = firstOf(this.#groups);
    for (const one of this.#groups) if (one[1].size > queue.size) [group, queue] = one;
    if (ownQueue?.size === queue.size) [group, queue] = [own, ownQueue];
    let [member, items] = firstOf(queue.members);
    for (const one of queue.members) if (one[1].length > items.length) [member, items] = one;
    return { group, member, items };
  }
}

function firstOf<K, V>(map: ReadonlyMap<K, V>): readonly [K, V] {
  const [first] = map;
  invariant(first !== undefined, 'what waits is of somebody');
  return first;
}
