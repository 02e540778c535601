/** Durations as people write them: `"15m"`, `"90d"`, or a number of seconds. */

const UNIT_SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;
const DURATION = /^([1-9][0-9]{0,9}|0)([smhd])$/;
/** Ten years: longer than any sensible lifetime, window or overlap, and within the range of every date type. */
export const DURATION_SECONDS_MAX: number = 10 * 365 * 86_400;

/** Whole seconds, or null when it is not a duration of at most {@link DURATION_SECONDS_MAX}. */
export function parseDuration(text: string | number): number | null {
  const seconds = typeof text === 'number' ? text : secondsOf(text);
  return Number.isSafeInteger(seconds) && seconds >= 0 && seconds <= DURATION_SECONDS_MAX ? seconds : null;
}

function secondsOf(text: string): number {
  const match = DURATION.exec(text);
  return match === null ? Number.NaN : Number(match[1]) * UNIT_SECONDS[match[2] as keyof typeof UNIT_SECONDS];
}

/** Writes it with the largest unit that divides it. */
export function formatDuration(seconds: number): string {
  for (const unit of ['d', 'h', 'm'] as const) {
    if (seconds > 0 && seconds % UNIT_SECONDS[unit] === 0) return `${seconds / UNIT_SECONDS[unit]}${unit}`;
  }
  return `${seconds}s`;
}
