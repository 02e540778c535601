/** The schema of the answer of the token endpoint, for the OpenAPI file and for tests that compare answers with it. */
import { z } from 'zod';

export const tokenSchema = z
  .strictObject({
    access_token: z.string(),
    issued_token_type: z.string().optional(),
    token_type: z.literal('Bearer'),
    expires_in: z.int(),
    scope: z.string().optional(),
  })
  .meta({ id: 'Token' });
