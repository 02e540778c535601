/** The steps in which usage is counted: how long each is, how long its counts are kept, how much of it is read at once. */
import { DAY_MS, HOUR_MS, type Instant, MINUTE_MS } from '../foundation/clock.ts';
import type { UsageStep } from './usage-rows.ts';

export const STEP_MS: Readonly<Record<UsageStep, number>> = { minute: MINUTE_MS, hour: HOUR_MS, day: DAY_MS };

/**
 * Minutes are for an incident of the last days, a weekend in between; hours for comparing this quarter's weeks and for
 * billing a month that is disputed; days for comparing years.
 */
export const USAGE_KEPT_MS: Readonly<Record<UsageStep, number>> = {
  minute: 8 * DAY_MS,
  hour: 100 * DAY_MS,
  day: 3 * 366 * DAY_MS,
};

/** The longest range of one answer: at most 1 440 items, more than any chart can show. */
export const USAGE_RANGE_MAX_MS: Readonly<Record<UsageStep, number>> = {
  minute: DAY_MS,
  hour: 31 * DAY_MS,
  day: 3 * 366 * DAY_MS,
};

/** The start of the step that a moment lies in. */
export function stepOf(at: Instant, step: UsageStep): Instant {
  return Math.floor(at / STEP_MS[step]) * STEP_MS[step];
}
