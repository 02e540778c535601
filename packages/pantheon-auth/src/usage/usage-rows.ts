/** The port through which usage is stored and read. Implemented over SQL. */

import type { Instant } from '../foundation/clock.ts';
import type { DenialCode } from '../foundation/codes.ts';

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
export interface VersionUse {
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
  readonly uses: readonly VersionUse[];
}

export interface VersionUsage {
  readonly version: number;
  readonly usageCount: number;
  readonly lastUsedAt: Instant;
  readonly lastAddresses: readonly string[];
}

export interface UsageQuery {
  readonly tenantId: string;
  readonly keyId: string | null;
  readonly from: Instant;
  readonly to: Instant;
}

export interface UsageRows {
  /** One transaction. A batch whose id is known already changes nothing. */
  store(batch: UsageBatch): Promise<void>;
  /** Usage by version of each key. */
  ofKeys(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, readonly VersionUsage[]>>;
  /** Counts per minute, in order of time. */
  counts(query: UsageQuery): Promise<readonly UsageCount[]>;
}
