/** The schemas of answers about tenants. */
import { z } from 'zod';
import { etag, pageOf, time } from '../../http/answer-members.ts';

export const tenantSchema = z
  .strictObject({
    id: z.string(),
    etag,
    name: z.string(),
    state: z.enum(['active', 'suspended', 'deleted']),
    audiences: z
      .array(z.string())
      .optional()
      .describe('Audiences that its keys may have, in addition to those of the service.'),
    createdAt: time,
  })
  .meta({ id: 'Tenant' });

const quarantinedTenantSchema = z.strictObject({ id: z.string(), createdAt: time, quarantined: z.literal(true) }).meta({
  id: 'QuarantinedTenant',
  description:
    'A tenant whose record is damaged and cannot be read. Requests with its keys are answered with 503 until the record is repaired.',
});

export const tenantPageSchema = pageOf(z.union([tenantSchema, quarantinedTenantSchema])).meta({ id: 'TenantPage' });
