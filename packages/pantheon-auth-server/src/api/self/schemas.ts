/** The answers about the calling key itself. */
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

export const nextSecretSchema = z
  .strictObject({
    version: z.int().describe('The number of the new version.'),
    jwe: z.string().describe('The new key string as a compact JWE (RFC 7516), encrypted to recipientJwk with A256GCM.'),
    acceptedUntil: time.describe('Until when the version before it is, or was, accepted.'),
  })
  .meta({ id: 'NextSecret', description: 'The next key string of a key that the service rotated.' });
