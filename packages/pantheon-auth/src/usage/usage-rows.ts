/** The port through which usage is stored and read. Implemented over SQL. */

import type { Lane } from '../events/write-lanes.ts';
import type { Instant } from '../foundation/clock.ts';
import type { DenialCode } from '../foundation/codes.ts';

/**
 * The most rows in one transaction, which blocks the event loop with SQLite: 500 took 44 ms, 100 take less than 10 ms.
 */
export const ROWS_AT_ONCE_MAX = 100;

export type UsageOutcome = 'valid' | DenialCode;

export interface UsageCount {
  readonly tenantId: string;
  readonly keyId: string;
  readonly version: number;
  /** Start of the minute. */
  readonly minute: Instant;
  readonly outcome: UsageOutcome;
  readonly count: number;
}

/** The last use of one version: what the record shows as `lastUsedAt` and `lastAddresses`. */
export interface PendingUsage {
  readonly tenantId: string;
  readonly keyId: string;
  readonly version: number;
  /** Uses to add. Only `valid` ones count. */
  readonly count: number;
  readonly lastUsedAt: Instant;
  /** Latest first. */
  readonly addresses: readonly string[];
}

/** Everything since the last flush. The id makes a retry count once. */
export interface UsageBatch {
  readonly id: string;
  readonly at: Instant;
  readonly counts: readonly UsageCount[];
  readonly uses: readonly PendingUsage[];
}

/** The largest count that is stored or shown: additions stop there. */
export const COUNT_MAX: number = Number.MAX_SAFE_INTEGER;

/** Adds two counts, at most {@link COUNT_MAX}. */
export function addCounts(one: number, other: number): number {
  return Math.min(COUNT_MAX, one + other);
}

/** The latest of the times that are known; null: none is. */
export function latestUse(times: readonly (Instant | null)[]): Instant | null {
  const known = times.filter((time) => time !== null);
  return known.length === 0 ? null : Math.max(...known);
}

export interface KeyUsage {
  /** At most {@link COUNT_MAX}. A damaged one is at least 1, because there is a count only of what was used. */
  readonly usageCount: number;
  /** Null: what is stored of it is damaged. */
  readonly lastUsedAt: Instant | null;
}

export interface StoredUsage extends KeyUsage {
  readonly version: number;
  readonly lastAddresses: readonly string[];
}

/** How fine counts are kept. A day of UTC always has 24 hours. */
export type UsageStep = 'minute' | 'hour' | 'day';

export interface UsageQuery {
  readonly tenantId: string;
  /** Null: of all keys of the tenant. */
  readonly keyId: string | null;
  readonly step: UsageStep;
  readonly from: Instant;
  readonly to: Instant;
}

/** Uses with one outcome in one step. */
export interface UsageSum {
  /** Start of the step. */
  readonly from: Instant;
  readonly outcome: string;
  readonly count: number;
}

export interface UsageRows {
  /**
   * Stores a batch in one transaction, also in the sums by hour, by day and of the tenant. A batch whose id is already
   * stored changes nothing.
   */
  store(batch: UsageBatch): Promise<void>;
  /** Of each key that was used, over all its versions. */
  totalsOf(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, KeyUsage>>;
  /** Of one key, over all its versions. Null: it was not used. `lane`: of the command whose answer tells it. */
  totalOf(tenantId: string, keyId: string, lane?: Lane): Promise<KeyUsage | null>;
  /** By version, newest first: as many as are kept of a key. */
  ofKey(tenantId: string, keyId: string, lane?: Lane): Promise<readonly StoredUsage[]>;
  /** In order of time. Reads one row for each answer, by minute of one key one more for each version. */
  sums(query: UsageQuery): Promise<readonly UsageSum[]>;
  /** Deletes at most `limit` counts of that step from before `before`, the oldest first; answers how many. */
  prune(step: UsageStep, before: Instant, limit: number): Promise<number>;
  /**
   * For one key, adds the uses of versions that are no longer reported separately to one row, at most `limit` versions.
   * Returns whether more keys remain: those for which this node has stored the first use of a new version.
   */
  foldVersions(limit: number): Promise<boolean>;
}
