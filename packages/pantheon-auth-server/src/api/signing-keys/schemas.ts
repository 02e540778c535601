/** The schemas of answers about signing keys. */
import { z } from 'zod';
import { time } from '../../http/answer-members.ts';

export const signingKeySchema = z
  .strictObject({
    kid: z.string().describe('RFC 7638 thumbprint of the public key.'),
    algorithm: z.enum(['ES256', 'Ed25519', 'RS256']),
    state: z
      .enum(['standby', 'next', 'signing', 'previous', 'retired'])
      .describe(
        'standby: published, and does not sign yet. next: signs from signsFrom on. signing: signs now. previous: does not sign any more, and its tokens are still accepted. retired: its tokens are refused.',
      ),
    createdAt: time,
    signsFrom: time.optional().describe('When it starts to sign, or started. Absent for a standby key.'),
    unusedFrom: time
      .optional()
      .describe('Only for a previous key: when every token that it signed has expired. It is retired then.'),
  })
  .meta({ id: 'SigningKey' });

const quarantinedSigningKeySchema = z
  .strictObject({
    kid: z.string(),
    algorithm: signingKeySchema.shape.algorithm.optional().describe('Absent when its public key is damaged too.'),
    quarantined: z.literal(true),
  })
  .meta({
    id: 'QuarantinedSigningKey',
    description:
      'A signing key whose record is damaged. It does not sign, and its tokens are answered with 503. Retire it: otherwise it signs again when its record is repaired.',
  });

export const signingKeysSchema = z
  .strictObject({ items: z.array(z.union([signingKeySchema, quarantinedSigningKeySchema])) })
  .meta({ id: 'SigningKeys' });
