/** Routes for signing keys. Only keys of the system tenant may use them; any other key gets 404. */
import { type AsymmetricAlgorithm, type PantheonAuth, SIGNING_ALGORITHMS } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import { signingKeySchema, signingKeysSchema } from './schemas.ts';

const kidParams = z.strictObject({
  kid: z.string().meta({ examples: ['NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs'] }),
});

const rotateBody = z
  .strictObject({ algorithm: z.enum(SIGNING_ALGORITHMS).describe('The algorithm whose signing key is rotated.') })
  .meta({ id: 'RotateSigningKeyInput', examples: [{ algorithm: 'ES256' }] });

const retireBody = z
  .strictObject({
    compromised: z
      .boolean()
      .nullish()
      .describe(
        'Set this to true if the private key may be known to others: all signing keys of its algorithm are retired, and no tokens of this algorithm are issued (503) until a new signing key has been published for six minutes.',
      ),
  })
  .optional()
  .meta({ id: 'RetireSigningKeyInput', examples: [{ compromised: true }] });

export function signingKeyOperations({ tokens }: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'GET',
      url: '/v1/signing-keys',
      id: 'listSigningKeys',
      tag: 'Signing keys',
      summary: 'List the signing keys that are not retired, newest first, then damaged ones.',
      access: { kind: 'key', action: 'signing_keys.read' },
      answer: {
        status: 200,
        description: 'The signing keys, without their private keys.',
        schema: signingKeysSchema,
      },
      codes: [],
      handle: async ({ by }) => ({ items: tokens.signingKeys({ by: by.caller }) }),
    }),
    operation({
      method: 'POST',
      url: '/v1/signing-keys',
      id: 'rotateSigningKey',
      tag: 'Signing keys',
      summary: 'Rotate the signing key of an algorithm: its standby key starts to sign.',
      access: { kind: 'key', action: 'signing_keys.add' },
      body: rotateBody,
      answer: {
        status: 201,
        description:
          'The signing key that replaces the previous one. It signs at once if it has been published for six minutes, so that verifiers with cached public keys have it; otherwise it signs from signsFrom on. Repeating the request before then changes nothing and returns the same signing key.',
        schema: signingKeySchema,
      },
      codes: ['not_allowed', ...CHANGE_CODES],
      handle: ({ body, by }) => tokens.rotateSigningKey(body.algorithm as AsymmetricAlgorithm, { by: by.caller }),
    }),
    operation({
      method: 'POST',
      url: '/v1/signing-keys/:kid/retire',
      id: 'retireSigningKey',
      tag: 'Signing keys',
      summary: 'Retire a signing key now: every token that it signed is refused.',
      access: { kind: 'key', action: 'signing_keys.retire' },
      params: kidParams,
      body: retireBody,
      answer: {
        status: 200,
        description:
          'The signing keys that are not retired. If the retired one was signing, they include the one that replaces it.',
        schema: signingKeysSchema,
      },
      codes: ['not_found', ...CHANGE_CODES],
      handle: async ({ params, body, by }) => {
        await tokens.retireSigningKey(params.kid, { compromised: body?.compromised ?? false, by: by.caller });
        // Not checked for `pantheon:signing-keys:read`: a caller that may retire signing keys may see the others.
        return { items: tokens.signingKeys() };
      },
    }),
  ];
}
