/** What is shown of signing keys. */
import { z } from 'zod';
import { time } from '../../http/answer-members.ts';

export const signingKeySchema = z
  .strictObject({
    kid: z.string().describe('RFC 7638 thumbprint of the public key.'),
    algorithm: z.enum(['ES256', 'Ed25519', 'RS256']),
    state: z
      .enum(['standby', 'next', 'signing', 'previous', 'retired'])
      .describe(
        'standby: published and waits. next: signs from signsFrom on. previous: signed before, and still verifies.',
      ),
    createdAt: time,
    signsFrom: time.optional().describe('From when on it signs, or did. Absent: it waits.'),
    unusedFrom: time.optional().describe('From when on no token that it signed is good any more. It is retired then.'),
  })
  .meta({ id: 'SigningKey' });

export const signingKeysSchema = z.strictObject({ items: z.array(signingKeySchema) }).meta({ id: 'SigningKeys' });
