/**
 * The shares of tenants in the disk reserve (`disk-reserve.ts`), from when it is released until it is refilled. Measured is
 * the growth of the database file. The rest of the reserve is for the write-ahead log, which restarts every few commits.
 */
import type { QueueKey } from '../../events/write-lanes.ts';
import { isFairShare } from '../../foundation/fair-share.ts';

/** The share of the reserve that the database may grow by. */
const FOR_THE_DATABASE = 1 / 2;
/** The share of that for commits that restrict keys. The rest is reserved for commits that end keys. */
const FOR_RESTRICTING = 1 / 2;
/** What each tenant may use to end keys, however much others have used. */
const OF_EACH_TENANT = 1 / 4;

export class ReserveShares {
  readonly #bytesOfDatabase: () => number;
  readonly #max: number;
  readonly #ofTenants = new Map<string | null, number>();
  /** The size of the database when the reserve was released; null: it is not released. */
  #startBytes: number | null = null;
  #lastBytes = 0;

  constructor(reserveBytes: number, bytesOfDatabase: () => number) {
    this.#max = reserveBytes * FOR_THE_DATABASE;
    this.#bytesOfDatabase = bytesOfDatabase;
  }

  /** Called before each write with whether the reserve is released. */
  setSpent(isSpent: boolean): void {
    if (isSpent === (this.#startBytes !== null)) return;
    this.#ofTenants.clear();
    this.#lastBytes = isSpent ? this.#bytesOfDatabase() : 0;
    this.#startBytes = isSpent ? this.#lastBytes : null;
  }

  /** Whether a protective write may use the reserve. Called immediately before it. */
  admits({ tenantId, purpose }: QueueKey): boolean {
    if (this.#startBytes === null || purpose === 'operates') return true;
    // Growth caused by another process counts for all, and for no tenant here.
    this.#lastBytes = this.#bytesOfDatabase();
    const use = { all: this.#lastBytes - this.#startBytes, own: this.#ofTenants.get(tenantId) ?? 0 };
    if (purpose !== 'ends') return isFairShare(use, this.#max * FOR_RESTRICTING);
    return use.own <= this.#max * OF_EACH_TENANT || isFairShare(use, this.#max);
  }

  /** Adds the growth of the database to the use of the tenant. */
  wrote({ tenantId }: QueueKey): void {
    if (this.#startBytes === null) return;
    const bytes = this.#bytesOfDatabase();
    const own = this.#ofTenants.get(tenantId) ?? 0;
    this.#ofTenants.set(tenantId, own + Math.max(0, bytes - this.#lastBytes));
    this.#lastBytes = bytes;
  }
}
