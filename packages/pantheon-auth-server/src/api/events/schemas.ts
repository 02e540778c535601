/** What is shown of the audit trail. */
import { z } from 'zod';
import { json, pageOf, time } from '../../http/answer-members.ts';

const eventSchema = z
  .strictObject({
    id: z.string(),
    seq: z.int().optional().describe('Its place in the log; shown to system keys only.'),
    at: time,
    tenantId: z.string(),
    type: z.string().meta({ examples: ['key.created'] }),
    actor: z.strictObject({
      keyId: z.string().nullable(),
      userId: z.string().nullable(),
      address: z.string().nullable(),
      userAgent: z.string().nullable(),
      job: z.string().optional().describe('The job of the service that did it, where it was one.'),
    }),
    subject: z.strictObject({ type: z.string(), id: z.string() }).describe('What it is about, the first of subjects.'),
    subjects: z.array(z.strictObject({ type: z.string(), id: z.string() })).describe('All that it is about.'),
    requestId: z.string().nullable(),
    reason: z.string().nullable(),
    before: json.nullable(),
    after: json.nullable(),
    damaged: z
      .literal(true)
      .optional()
      .describe('Its personal part cannot be read: those fields are null, or absent, for that.'),
  })
  .meta({ id: 'Event' });

const damagedEventSchema = eventSchema
  .pick({ id: true, seq: true, at: true, tenantId: true, type: true, subject: true, subjects: true })
  .extend({ damaged: z.literal(true).describe('It is not what was written: nothing of what it says is shown.') })
  .meta({ id: 'DamagedEvent' });

export const eventPageSchema = pageOf(z.union([eventSchema, damagedEventSchema])).meta({ id: 'EventPage' });
