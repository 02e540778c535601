/** The route that reads the audit trail of a tenant. */
import { type PantheonAuth, SUBJECT_TYPES } from 'pantheon-auth';
import { z } from 'zod';
import { type Operation, operation } from '../../http/operation.ts';
import { omitUndefined, pageQuery } from '../../http/parameters.ts';
import { eventPageSchema } from './schemas.ts';

const eventQuery = z.strictObject({
  type: z
    .string()
    .optional()
    .meta({ examples: ['key.revoked'] }),
  subjectType: z.enum(SUBJECT_TYPES).optional(),
  subjectId: z.string().optional(),
  order: z.enum(['newest_first', 'oldest_first']).optional(),
  ...pageQuery,
});

export function eventOperations({ events }: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'GET',
      url: '/v1/events',
      id: 'listEvents',
      tag: 'Events',
      summary: 'Read the audit trail.',
      access: { kind: 'key', action: 'events.read' },
      query: eventQuery,
      answer: { status: 200, description: 'A page of events.', schema: eventPageSchema },
      codes: ['invalid_cursor', 'overloaded'],
      handle: ({ query, by, request }) =>
        events.list(by.tenantId, omitUndefined(query), { by: by.caller, signal: request.signal }),
    }),
  ];
}
