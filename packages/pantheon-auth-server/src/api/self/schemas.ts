/** What a token is shown of itself. */
import { z } from 'zod';
import { environment, time } from '../../http/answer-members.ts';

/** What a token may know of its key: no more than it says itself. */
export const tokenSelfSchema = z
  .strictObject({
    id: z.string().describe('Of its key.'),
    environment,
    permissions: z.array(z.string()).describe('What both the token and its key allow.'),
    expiresAt: time,
  })
  .meta({ id: 'TokenSelf', description: 'What a token is shown of itself.' });
