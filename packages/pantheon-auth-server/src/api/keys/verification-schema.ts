/** The schema of the answer to a verification. */
import { z } from 'zod';
import { environment, time } from '../../http/answer-members.ts';

const limitStateSchema = z
  .strictObject({
    kind: z.enum(['rate', 'quota']),
    name: z.string(),
    limit: z.int(),
    remaining: z.int(),
    resetSeconds: z.int(),
    windowSeconds: z.int(),
  })
  .meta({ id: 'LimitState' });

const degraded = z
  .literal(true)
  .optional()
  .describe(
    'This node admits only its share of each rate limit, and `limits` is about that share. Either Redis does not answer, or there is no Redis and one node is being replaced by another.',
  );

const rotationHintSchema = z
  .strictObject({
    state: z.enum(['due', 'overdue', 'superseded']),
    version: z.int().describe('The current version.'),
    before: time,
  })
  .meta({
    id: 'RotationHint',
    description:
      'What the holder has to do before this time: claim the next version (due, overdue), or change to the current one (superseded).',
  });

export const verificationSchema = z
  .discriminatedUnion('valid', [
    z.strictObject({
      valid: z.literal(true),
      keyId: z.string(),
      version: z.int(),
      userId: z.string(),
      tenantId: z.string(),
      name: z.string(),
      environment,
      permissions: z.array(z.string()),
      expiresAt: time.optional(),
      rotation: rotationHintSchema.optional(),
      limits: z.array(limitStateSchema),
      degraded,
    }),
    z.strictObject({
      valid: z.literal(false),
      code: z.string().describe('The code of the denial.'),
      missing: z.string().optional(),
      retryAfterSeconds: z.int().optional(),
      limits: z.array(limitStateSchema).optional(),
      degraded,
    }),
  ])
  .meta({ id: 'Verification' });
