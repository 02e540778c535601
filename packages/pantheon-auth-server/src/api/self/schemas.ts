/** What `GET /v1/self` answers to a token. */
import { z } from 'zod';
import { environment, time } from '../../http/answer-members.ts';

/** Nothing about the key that the token does not contain itself. */
export const tokenSelfSchema = z
  .strictObject({
    id: z.string().describe('The id of its key.'),
    environment,
    permissions: z.array(z.string()).describe('The permissions that both the token and its key have.'),
    expiresAt: time,
  })
  .meta({ id: 'TokenSelf', description: 'What a token can read about itself.' });
