/** The schemas of answers about the audit trail. */
import { z } from 'zod';
import { json, pageOf, time } from '../../http/answer-members.ts';

const eventSchema = z
  .strictObject({
    id: z.string(),
    seq: z.int().optional().describe('The sequence number in the log. Only for keys of the system tenant.'),
    at: time,
    tenantId: z.string(),
    type: z.string().meta({ examples: ['key.created'] }),
    actor: z.strictObject({
      keyId: z.string().nullable(),
      userId: z.string().nullable(),
      address: z.string().nullable(),
      userAgent: z.string().nullable(),
      job: z.string().optional().describe('The name of the background job that made the change, if it was a job.'),
    }),
    subject: z
      .strictObject({ type: z.string(), id: z.string() })
      .describe('What the event is mainly about: the first of `subjects`.'),
    subjects: z
      .array(z.strictObject({ type: z.string(), id: z.string() }))
      .describe('Everything that the event is about.'),
    requestId: z.string().nullable(),
    reason: z.string().nullable(),
    before: json.nullable(),
    after: json.nullable(),
    damaged: z
      .literal(true)
      .optional()
      .describe('The personal part of the event is damaged and cannot be read, so its fields are null or absent.'),
  })
  .meta({ id: 'Event' });

const damagedEventSchema = eventSchema
  .pick({ id: true, seq: true, at: true, tenantId: true, type: true, subject: true, subjects: true })
  .extend({
    damaged: z.literal(true).describe('The stored event is not what was written, so its content is not shown.'),
  })
  .meta({ id: 'DamagedEvent' });

export const eventPageSchema = pageOf(z.union([eventSchema, damagedEventSchema])).meta({ id: 'EventPage' });
