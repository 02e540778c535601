/** The port for the schedule: which keys the job has to look at. */
import type { Instant } from '../foundation/clock.ts';
import type { KeyScheduleRow, KeyScheduleWrite } from '../schema/key-schedule-row.ts';

export interface ScheduledKey extends Readonly<KeyScheduleRow> {
  /** Whether a number of its row was damaged. The row was then written anew, as if nothing had been announced. */
  readonly wasDamaged?: boolean;
}

export interface KeyScheduleRows {
  /** Keys whose `look_at` has come, the longest waiting first, without keys of `exceptTenants`. */
  due(
    now: Instant,
    page: { readonly exceptTenants: readonly string[]; readonly limit: number },
  ): Promise<readonly ScheduledKey[]>;
  /** Whether any key is due. One read by an index. */
  isAnyDue(now: Instant): Promise<boolean>;
  /** Stores when to look again, unless the key has changed, or an awaited use was stored, since the row was read. */
  plan(planned: Extract<KeyScheduleWrite, { kind: 'planned' }>, read: ScheduledKey): Promise<void>;
}
