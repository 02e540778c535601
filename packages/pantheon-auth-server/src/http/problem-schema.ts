/** How errors look: problem documents, and those of the OAuth endpoints. */
import { z } from 'zod';

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string().describe('Stable. Decide by this.'),
    detail: z.string(),
    instance: z.string().optional().describe('The request id: what to tell the operator.'),
    field: z.string().optional(),
    'violated-policies': z.array(z.string()).optional(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem details.' });

export const oauthErrorSchema = z
  .strictObject({ error: z.string(), error_description: z.string() })
  .meta({ id: 'OAuthError', description: 'RFC 6749 section 5.2.' });
