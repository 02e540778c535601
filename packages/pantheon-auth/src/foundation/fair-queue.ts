/**
 * A bounded fair queue: it takes items round-robin by group, and within a group round-robin by member. Its bound is
 * counted in places: an item takes one place, a large one several. When it is full, items of the member with the most
 * places are dropped, so a flood displaces its own items.
 */
import { invariant } from './errors.ts';

/** The group and member that an item belongs to. */
export interface TurnKey {
  /** Null is one group. */
  readonly group: string | null;
  readonly member: string;
}

interface Waiting<T> {
  readonly item: T;
  readonly places: number;
}

/** The waiting items of one member, oldest first. */
interface MemberQueue<T> {
  readonly waiting: Waiting<T>[];
  places: number;
}

/** The waiting items of one group, by member. The insertion order of the map is the round-robin order. */
interface GroupQueue<T> {
  readonly members: Map<string, MemberQueue<T>>;
  places: number;
}

/** How many items of each member would be dropped, the newest first. */
interface GivingWay<T> {
  readonly counts: Map<MemberQueue<T>, number>;
  places: number;
}

export class FairQueue<T> {
  readonly #placesMax: number;
  readonly #ofMemberMax: number;
  readonly #groups = new Map<string | null, GroupQueue<T>>();
  #size = 0;
  #places = 0;

  /**
   * @param placesMax the most places in the queue.
   * @param ofMemberMax the most places of one member.
   */
  constructor(placesMax: number, ofMemberMax: number = placesMax) {
    this.#placesMax = placesMax;
    this.#ofMemberMax = ofMemberMax;
  }

  /** The number of items. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds `item` at the end of its member. Returns the items that were dropped for it: none while there is room; otherwise
   * the newest items of the largest members of the largest group, or only `item` when that is its own member, or when no
   * group would have more than its own. An item with more places than one member may have counts as that many.
   */
  push(item: T, key: TurnKey, places = 1): readonly T[] {
    const taken = Math.min(places, this.#ofMemberMax);
    const ofMember = this.#groups.get(key.group)?.members.get(key.member)?.places ?? 0;
    if (ofMember + taken > this.#ofMemberMax) return [item];
    const missing = this.#places + taken - this.#placesMax;
    const turnedAway = missing > 0 ? this.#makeRoom(missing, key, taken) : [];
    if (turnedAway === null) return [item];
    this.#append({ item, places: taken }, key);
    return turnedAway;
  }

  /** Takes the next item of a group that may have a turn; null when there is none. Other groups keep their positions. */
  shift(mayHaveTurn: (group: string | null) => boolean = () => true): T | null {
    for (const [group, queue] of this.#groups) {
      if (!mayHaveTurn(group)) continue;
      const [member, own] = firstOf(queue.members);
      const [next] = own.waiting;
      invariant(next !== undefined, 'a member that is in the queue waits');
      this.#takeOut(0, own, { group, member });
      // A member and a group with remaining items move to the end of their round.
      if (queue.members.delete(member) && own.waiting.length > 0) queue.members.set(member, own);
      if (this.#groups.delete(group) && queue.members.size > 0) this.#groups.set(group, queue);
      return next.item;
    }
    return null;
  }

  /** Removes an item that no longer waits. */
  remove(item: T, key: TurnKey): void {
    const own = this.#groups.get(key.group)?.members.get(key.member);
    const at = own?.waiting.findIndex((one) => one.item === item) ?? -1;
    if (own !== undefined && at !== -1) this.#takeOut(at, own, key);
  }

  #append(one: Waiting<T>, { group, member }: TurnKey): void {
    const queue = this.#groups.get(group) ?? { members: new Map<string, MemberQueue<T>>(), places: 0 };
    const own = queue.members.get(member) ?? { waiting: [], places: 0 };
    own.waiting.push(one);
    own.places += one.places;
    queue.members.set(member, own);
    queue.places += one.places;
    this.#groups.set(group, queue);
    this.#places += one.places;
    this.#size += 1;
  }

  #takeOut(at: number, own: MemberQueue<T>, { group, member }: TurnKey): T {
    const queue = this.#groups.get(group);
    const [one] = own.waiting.splice(at, 1);
    invariant(queue !== undefined && one !== undefined, 'what waits is of a group that waits');
    own.places -= one.places;
    queue.places -= one.places;
    this.#places -= one.places;
    this.#size -= 1;
    if (own.waiting.length === 0) queue.members.delete(member);
    if (queue.members.size === 0) this.#groups.delete(group);
    return one.item;
  }

  /** Drops items of the largest group. Null: none, because it would then have fewer places than the group of the new item. */
  #makeRoom(missing: number, key: TurnKey, taken: number): readonly T[] | null {
    const own = this.#groups.get(key.group);
    const [group, queue] = this.#largestGroup(key.group, own);
    const ofMember = own?.members.get(key.member)?.places ?? 0;
    // Within its own group, only items of members with at least as many places as its own would have.
    const least = queue === own ? ofMember + taken : 0;
    const found = givingWay(queue, missing, least);
    if (found === null) return null;
    if (queue !== own && queue.places - found.places < (own?.places ?? 0) + taken) return null;
    const turnedAway: T[] = [];
    for (const [member, members] of [...queue.members])
      for (let n = found.counts.get(members) ?? 0; n > 0; n -= 1)
        turnedAway.push(this.#takeOut(members.waiting.length - 1, members, { group, member }));
    return turnedAway;
  }

  /** Among equally large groups, the group of the new item. */
  #largestGroup(own: string | null, ownQueue: GroupQueue<T> | undefined): [string | null, GroupQueue<T>] {
    let [group, queue] = firstOf(this.#groups);
    for (const one of this.#groups) if (one[1].places > queue.places) [group, queue] = one;
    return ownQueue?.places === queue.places ? [own, ownQueue] : [group, queue];
  }
}

/** Repeatedly the newest item of the largest member, while that has at least `least` places. Null: not enough. */
function givingWay<T>(queue: GroupQueue<T>, missing: number, least: number): GivingWay<T> | null {
  const left = new Map([...queue.members.values()].map((own) => [own, own.places]));
  const found: GivingWay<T> = { counts: new Map(), places: 0 };
  while (found.places < missing) {
    let [most, places] = firstOf(left);
    for (const one of left) if (one[1] > places) [most, places] = one;
    const count = found.counts.get(most) ?? 0;
    const newest = most.waiting.at(-1 - count);
    if (newest === undefined || places < least) return null;
    found.counts.set(most, count + 1);
    found.places += newest.places;
    left.set(most, places - newest.places);
  }
  return found;
}

function firstOf<K, V>(map: ReadonlyMap<K, V>): readonly [K, V] {
  const [first] = map;
  invariant(first !== undefined, 'what waits is of somebody');
  return first;
}
