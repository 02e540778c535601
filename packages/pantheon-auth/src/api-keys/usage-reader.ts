/** Reads the usage of keys: stored counts plus counts of this node that are not stored yet. */

import { ADDRESSES_PER_VERSION_MAX } from '../usage/usage-buffer.ts';
import type { UsageRecorder } from '../usage/usage-recorder.ts';
import type { KeyUsage, PendingUsage, StoredUsage, UsageRows } from '../usage/usage-rows.ts';

export class UsageReader {
  readonly #rows: UsageRows;
  readonly #recorder: UsageRecorder;

  constructor(rows: UsageRows, recorder: UsageRecorder) {
    this.#rows = rows;
    this.#recorder = recorder;
  }

  /** Usage of each key over all versions, as parts to be added up. */
  async totalsOf(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, readonly KeyUsage[]>> {
    // Read before the database: counts stored in between are counted twice for a moment, but none is ever missing.
    const pending = new Map(keyIds.map((id) => [id, this.#recorder.pendingOf(id)]));
    const stored = keyIds.length === 0 ? NOTHING_STORED : await this.#rows.totalsOf(tenantId, keyIds);
    return new Map(
      [...pending].map(([id, uses]) => {
        const total = stored.get(id);
        const more = uses.map(({ count, lastUsedAt }): KeyUsage => ({ usageCount: count, lastUsedAt }));
        return [id, total === undefined ? more : [total, ...more]];
      }),
    );
  }

  /** Usage of the versions of one key that are kept. */
  async ofKey(tenantId: string, keyId: string): Promise<readonly StoredUsage[]> {
    const pending = this.#recorder.pendingOf(keyId);
    return merge(await this.#rows.ofKey(tenantId, keyId), pending);
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
