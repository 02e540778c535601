/** The schemas of errors: problem documents, and the errors of the OAuth endpoints. */
import { z } from 'zod';

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string().describe('A stable code. Programs decide by it.'),
    detail: z.string(),
    instance: z.string().optional().describe('The request id. Give it to the operator when you report the problem.'),
    field: z.string().optional(),
    'violated-policies': z.array(z.string()).optional(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem details.' });

export const oauthErrorSchema = z
  .strictObject({ error: z.string(), error_description: z.string() })
  .meta({ id: 'OAuthError', description: 'RFC 6749 section 5.2.' });
