/** Durations in input. */
import { z } from 'zod';
import { parseDuration } from '../foundation/duration.ts';

/** A duration: `"15m"`, `"12h"`, `"90d"`, or whole seconds. */
export type DurationInput = string | number;

const DURATION_ADVICE = 'Write "15m", "12h", "90d", or whole seconds.';

/** Read as whole seconds. */
export const duration: z.ZodType<number, DurationInput> = z
  .union([z.string(), z.number()], DURATION_ADVICE)
  .refine((value) => parseDuration(value) !== null, DURATION_ADVICE)
  .transform((value) => parseDuration(value) ?? 0);
