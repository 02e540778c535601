/**
 * The ids of tenants that are known to exist, so that a request that names its tenant needs no read of the database.
 * Events of the log remove them, and the answer is as old as facts behind an acceptance may be (I4). No access is decided
 * by it: verifications and changes read the state of the tenant, and only keys of the system tenant name another one.
 */
import { LRUCache } from 'lru-cache';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice } from '../events/ledger.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';

/** An id has at most 64 characters. */
const KNOWN_TENANTS_MAX = 10_000;

export class KnownTenants implements Follower {
  readonly #known = new LRUCache<string, true>({ max: KNOWN_TENANTS_MAX });
  /** Reads in progress, by reader and id. A change of a tenant removes them, so that what they find is not kept. */
  readonly #reads = new Map<string, Promise<unknown>>();
  readonly #freshen: () => Promise<void> | null;

  /** @param freshen applies the latest events, if what is in memory may be too old. */
  constructor(freshen: () => Promise<void> | null) {
    this.#freshen = freshen;
  }

  /**
   * Resolves when the tenant exists. `read` takes the turn of the reader and throws if the tenant does not exist. Concurrent
   * requests of one reader for one tenant share it.
   */
  async confirm(id: string, { member }: TurnKey, read: () => Promise<unknown>): Promise<void> {
    if (this.#known.has(id)) {
      await this.#freshen();
      if (this.#known.has(id)) return;
    }
    const name = `${member} ${id}`;
    const shared = this.#reads.get(name);
    if (shared !== undefined) {
      // Its error may be older than this request.
      await shared.catch(() => read());
      return;
    }
    const own = read();
    this.#reads.set(name, own);
    try {
      await own;
      if (this.#reads.get(name) === own) this.#known.set(id, true);
    } finally {
      if (this.#reads.get(name) === own) this.#reads.delete(name);
    }
  }

  forget(id: string): void {
    this.#known.delete(id);
    this.#reads.clear();
  }

  apply({ subjectType, subjectId }: EventNotice): void {
    if (subjectType === 'tenant') this.forget(subjectId);
  }

  reset(): void {
    this.#known.clear();
    this.#reads.clear();
  }
}
