/** What the token endpoint answers, for the OpenAPI file and for the tests that hold the answers to it. */
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
