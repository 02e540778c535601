/** The port for the schedule of keys: which of them the service has to look at. */
import type { Instant } from '../foundation/clock.ts';
import type { KeyScheduleRow, KeyScheduleWrite } from '../schema/key-schedule-row.ts';

export type ScheduledKey = Readonly<KeyScheduleRow>;

export interface KeyScheduleRows {
  /** Keys to look at, those that have waited longest first; none of these tenants. */
  due(
    now: Instant,
    page: { readonly exceptTenants: readonly string[]; readonly limit: number },
  ): Promise<readonly ScheduledKey[]>;
  /** Whether there are any. One read by an index. */
  isAnyDue(now: Instant): Promise<boolean>;
  /** Stores when to look again, unless the key has changed or was used since the row was read. */
  plan(planned: Extract<KeyScheduleWrite, { kind: 'planned' }>, read: ScheduledKey): Promise<void>;
}
