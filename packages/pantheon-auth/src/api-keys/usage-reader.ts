/**
 * Reads the usage of keys: stored counts plus counts of this node that are not stored yet. The usage in the answer to a
 * change is read before the change, so that a failing read cannot turn a committed change into an error.
 */

import type { CommandReads } from '../commands/command-reads.ts';
import type { Lane } from '../events/write-lanes.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import { ADDRESSES_PER_VERSION_MAX } from '../usage/usage-buffer.ts';
import type { UsageRecorder } from '../usage/usage-recorder.ts';
import { addCounts, type KeyUsage, type PendingUsage, type StoredUsage, type UsageRows } from '../usage/usage-rows.ts';

/** A key that a command is about to change, and the queue position of its reads. */
export interface AboutToChange {
  readonly tenantId: string;
  readonly keyId: string;
  readonly reader: TurnKey;
  readonly lane: Lane;
}

export class UsageReader {
  readonly #rows: UsageRows;
  readonly #recorder: UsageRecorder;
  readonly #reads: CommandReads;

  constructor(deps: {
    readonly rows: UsageRows;
    readonly recorder: UsageRecorder;
    readonly reads: CommandReads;
  }) {
    this.#rows = deps.rows;
    this.#recorder = deps.recorder;
    this.#reads = deps.reads;
  }

  /** The usage of one key over all its versions, as parts to add up. Does not wait in turn. */
  totalOf(tenantId: string, keyId: string): Promise<readonly KeyUsage[]> {
    return this.#totalOf(tenantId, keyId, { readsMax: READS_MAX });
  }

  /**
   * The same before a change, for its answer. Never throws: if the read fails, returns what this node has counted. Does not
   * wait for a batch that is being stored, whose uses may be counted twice.
   */
  async totalBefore({ tenantId, keyId, reader, lane }: AboutToChange): Promise<readonly KeyUsage[]> {
    try {
      return await this.#reads.run(lane, reader, () => this.#totalOf(tenantId, keyId, { readsMax: 1, lane }));
    } catch {
      return this.#countedOf(keyId);
    }
  }

  /** By version, as {@link UsageReader.totalBefore}. */
  async versionsBefore({ tenantId, keyId, reader, lane }: AboutToChange): Promise<readonly StoredUsage[]> {
    try {
      return await this.#reads.run(lane, reader, () => this.#ofKey(tenantId, keyId, { readsMax: 1, lane }));
    } catch {
      return merge([], this.#recorder.pendingOf(keyId));
    }
  }

  /** Usage of each key over all versions, as parts to be added up. */
  async totalsOf(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, readonly KeyUsage[]>> {
    const { counted, stored } = await this.#together(READS_MAX, {
      counted: () => keyIds.map((id) => [id, this.#countedOf(id)] as const).filter(([, parts]) => parts.length > 0),
      stored: async () => (keyIds.length === 0 ? NOTHING_STORED : await this.#rows.totalsOf(tenantId, keyIds)),
    });
    const notStored = new Map(counted);
    return new Map(
      keyIds.map((id) => {
        const total = stored.get(id);
        return [id, [...(total === undefined ? [] : [total]), ...(notStored.get(id) ?? [])]];
      }),
    );
  }

  /** Usage of the versions of one key that are kept. */
  ofKey(tenantId: string, keyId: string): Promise<readonly StoredUsage[]> {
    return this.#ofKey(tenantId, keyId, { readsMax: READS_MAX });
  }

  async #totalOf(tenantId: string, keyId: string, { readsMax, lane }: ReadOptions): Promise<readonly KeyUsage[]> {
    const { counted, stored } = await this.#together(readsMax, {
      counted: () => this.#countedOf(keyId),
      stored: () => this.#rows.totalOf(tenantId, keyId, lane),
    });
    return stored === null ? counted : [stored, ...counted];
  }

  async #ofKey(tenantId: string, keyId: string, { readsMax, lane }: ReadOptions): Promise<readonly StoredUsage[]> {
    const { counted, stored } = await this.#together(readsMax, {
      counted: () => this.#recorder.pendingOf(keyId),
      stored: () => this.#rows.ofKey(tenantId, keyId, lane),
    });
    return merge(stored, counted);
  }

  /**
   * Reads what is not stored yet, then what is stored, so that no use is missing. Uses that were stored in between are in
   * both: then both are read again, after the batch is stored. If that takes long, because writes wait, it is not waited
   * for, since the reads of other tenants wait for this one; uses may then be counted twice.
   */
  async #together<Counted, Stored>(
    readsMax: number,
    read: { readonly counted: () => readonly Counted[]; readonly stored: () => Promise<Stored> },
  ): Promise<{ readonly counted: readonly Counted[]; readonly stored: Stored }> {
    const recorder = this.#recorder;
    for (let reads = 1; ; reads += 1) {
      const { storing, storesBegun } = recorder;
      const counted = read.counted();
      const stored = await read.stored();
      const isInOne = counted.length === 0 || (storing === null && recorder.storesBegun === storesBegun);
      if (isInOne || reads >= readsMax) return { counted, stored };
      if (!(await recorder.endOfStoring(STORING_MS_MAX))) return { counted, stored };
    }
  }

  #countedOf(keyId: string): readonly KeyUsage[] {
    return this.#recorder.pendingOf(keyId).map(({ count, lastUsedAt }) => ({ usageCount: count, lastUsedAt }));
  }
}

/** The most reads for one answer. After that, uses may be counted twice in it. */
const READS_MAX = 3;
/** Storing a batch takes a few milliseconds. If it has taken this long, writes are delayed, possibly by seconds. */
export const STORING_MS_MAX = 50;

interface ReadOptions {
  readonly readsMax: number;
  readonly lane?: Lane;
}

const NOTHING_STORED: ReadonlyMap<string, KeyUsage> = new Map();

function merge(stored: readonly StoredUsage[], pending: readonly PendingUsage[]): readonly StoredUsage[] {
  const byVersion = new Map(stored.map((usage) => [usage.version, usage]));
  for (const more of pending) {
    const known = byVersion.get(more.version);
    const addresses = [...new Set([...more.addresses, ...(known?.lastAddresses ?? [])])].slice(
      0,
      ADDRESSES_PER_VERSION_MAX,
    );
    byVersion.set(more.version, {
      version: more.version,
      usageCount: addCounts(more.count, known?.usageCount ?? 0),
      lastUsedAt: Math.max(more.lastUsedAt, known?.lastUsedAt ?? 0),
      lastAddresses: addresses,
    });
  }
  return [...byVersion.values()];
}
