/**
 * A queue whose turns go round the tenants, and within each tenant round its callers, so that nobody waits for more than
 * one of each other. It has an end, and whoever waits with the most gives way first when it is full.
 */

/** With whom something shares its turns. Null: nobody's tenant, the service itself. */
export interface Share {
  readonly tenantId: string | null;
  readonly callerId: string;
}

/** What waits of one tenant, by caller. A map keeps the order in which they were put into it: that is the round. */
interface TenantQueue<T> {
  readonly callers: Map<string, T[]>;
  size: number;
}

export class FairQueue<T> {
  readonly #max: number;
  readonly #ofCallerMax: number;
  readonly #tenants = new Map<string | null, TenantQueue<T>>();
  #size = 0;

  /** @param max what waits in all. One caller may have half of it, so that none can fill it. */
  constructor(max: number) {
    this.#max = max;
    this.#ofCallerMax = Math.ceil(max / 2);
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Puts `item` last of its caller. Answers what was turned away for it: nothing as long as there is room; else the newest
   * item of the caller with the most in the tenant with the most, or `item` itself when that is its own caller.
   */
  push(item: T, { tenantId, callerId }: Share): T | null {
    const tenant = this.#tenants.get(tenantId);
    const ofCaller = tenant?.callers.get(callerId)?.length ?? 0;
    if (ofCaller >= this.#ofCallerMax) return item;
    let turnedAway: T | null = null;
    if (this.#size >= this.#max) {
      const [largestId, largest] = this.#largestTenant();
      const [giving, givingId] = tenant?.size === largest.size ? [tenant, tenantId] : [largest, largestId];
      const [longestId, longest] = longestOf(giving.callers);
      if (giving === tenant && longest.length <= ofCaller) return item;
      turnedAway = longest.at(-1) ?? null;
      longest.length -= 1;
      this.#forget(givingId, giving, longestId, longest);
    }
    this.#append(item, tenantId, callerId);
    return turnedAway;
  }

  /** Takes the next one, if any waits. */
  shift(): T | null {
    const next = this.#tenants.entries().next();
    if (next.done === true) return null;
    const [tenantId, tenant] = next.value;
    const [callerId, items] = firstOf(tenant.callers);
    const item = items.shift() ?? null;
    this.#forget(tenantId, tenant, callerId, items);
    // To the end of both rounds, if something is left.
    if (items.length > 0) {
      tenant.callers.delete(callerId);
      tenant.callers.set(callerId, items);
    }
    if (tenant.size > 0) {
      this.#tenants.delete(tenantId);
      this.#tenants.set(tenantId, tenant);
    }
    return item;
  }

  #append(item: T, tenantId: string | null, callerId: string): void {
    const tenant = this.#tenants.get(tenantId) ?? { callers: new Map<string, T[]>(), size: 0 };
    const items = tenant.callers.get(callerId) ?? [];
    items.push(item);
    tenant.callers.set(callerId, items);
    tenant.size += 1;
    this.#tenants.set(tenantId, tenant);
    this.#size += 1;
  }

  /** Counts one that was taken out, and drops what is empty by now. */
  #forget(tenantId: string | null, tenant: TenantQueue<T>, callerId: string, items: readonly T[]): void {
    this.#size -= 1;
    tenant.size -= 1;
    if (items.length === 0) tenant.callers.delete(callerId);
    if (tenant.size === 0) this.#tenants.delete(tenantId);
  }

  #largestTenant(): readonly [string | null, TenantQueue<T>] {
    let largest = firstOf(this.#tenants);
    for (const one of this.#tenants) if (one[1].size > largest[1].size) largest = one;
    return largest;
  }
}

function longestOf<T>(callers: ReadonlyMap<string, T[]>): readonly [string, T[]] {
  let longest = firstOf(callers);
  for (const one of callers) if (one[1].length > longest[1].length) longest = one;
  return longest;
}

function firstOf<K, V>(map: ReadonlyMap<K, V>): readonly [K, V] {
  const [first] = map;
  if (first === undefined) throw new Error('Invariant broken: what waits belongs to somebody');
  return first;
}
