/** The schemas of answers about usage. */
import { z } from 'zod';
import { time } from '../../http/answer-members.ts';

export const usageSchema = z
  .strictObject({ items: z.array(z.strictObject({ from: time, outcomes: z.record(z.string(), z.int()) })) })
  .meta({ id: 'Usage', examples: [{ items: [{ from: '2030-01-31T00:00:00.000Z', outcomes: { valid: 12 } }] }] });
