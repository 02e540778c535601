/**
 * Reads the usage of keys: stored counts plus counts of this node that are not stored yet. The usage in the answer to a
 * change is read before the change, so that a failing read cannot turn a committed change into an error.
 */

import type { CommandReads } from '../commands/command-reads.ts';
import type { Lane } from '../events/write-lanes.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import { ADDRESSES_PER_VERSION_MAX } from '../usage/usage-buffer.ts';
import type { UsageRecorder } from '../usage/usage-recorder.ts';
import type { KeyUsage, PendingUsage, StoredUsage, UsageRows } from '../usage/usage-rows.ts';

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
  async totalOf(tenantId: string, keyId: string, lane?: Lane): Promise<readonly KeyUsage[]> {
    const counted = this.#countedOf(keyId);
    const total = await this.#rows.totalOf(tenantId, keyId, lane);
    return total === null ? counted : [total, ...counted];
  }

  /** The same before a change, for its answer. Never throws: if the read fails, returns what this node has counted. */
  async totalBefore({ tenantId, keyId, reader, lane }: AboutToChange): Promise<readonly KeyUsage[]> {
    try {
      return await this.#reads.run(lane, reader, () => this.totalOf(tenantId, keyId, lane));
    } catch {
      return this.#countedOf(keyId);
    }
  }

  /** By version, as {@link UsageReader.totalBefore}. */
  async versionsBefore({ tenantId, keyId, reader, lane }: AboutToChange): Promise<readonly StoredUsage[]> {
    try {
      return await this.#reads.run(lane, reader, () => this.ofKey(tenantId, keyId, lane));
    } catch {
      return merge([], this.#recorder.pendingOf(keyId));
    }
  }

  /** Usage of each key over all versions, as parts to be added up. */
  async totalsOf(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, readonly KeyUsage[]>> {
    // Read before the database: counts stored in between are counted twice for a moment, but none is ever missing.
    const counted = new Map(keyIds.map((id) => [id, this.#countedOf(id)]));
    const stored = keyIds.length === 0 ? NOTHING_STORED : await this.#rows.totalsOf(tenantId, keyIds);
    return new Map(
      [...counted].map(([id, more]) => {
        const total = stored.get(id);
        return [id, total === undefined ? more : [total, ...more]];
      }),
    );
  }

  /** Usage of the versions of one key that are kept. */
  async ofKey(tenantId: string, keyId: string, lane?: Lane): Promise<readonly StoredUsage[]> {
    const pending = this.#recorder.pendingOf(keyId);
    return merge(await this.#rows.ofKey(tenantId, keyId, lane), pending);
  }

  #countedOf(keyId: string): readonly KeyUsage[] {
    return this.#recorder.pendingOf(keyId).map(({ count, lastUsedAt }) => ({ usageCount: count, lastUsedAt }));
  }
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
      usageCount: more.count + (known?.usageCount ?? 0),
      lastUsedAt: Math.max(more.lastUsedAt, known?.lastUsedAt ?? 0),
      lastAddresses: addresses,
    });
  }
  return [...byVersion.values()];
}
