/** The keys that sign tokens, managed by keys of the system tenant. For any other key there are none. */
import { type AsymmetricAlgorithm, type PantheonAuth, SIGNING_ALGORITHMS } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import { omitUndefined } from '../../http/parameters.ts';
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
      .optional()
      .describe(
        'Somebody may know the private key: all signing keys of its algorithm end, and no token of it is made until a new one has been published for some minutes.',
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
      summary: 'List the signing keys that verify, newest first.',
      access: { kind: 'key', action: 'signing_keys.read' },
      answer: {
        status: 200,
        description: 'The signing keys. Their private halves are never shown.',
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
      summary: 'Let the next signing key of an algorithm take over.',
      access: { kind: 'key', action: 'signing_keys.add' },
      body: rotateBody,
      answer: {
        status: 201,
        description:
          'The signing key that takes over. It has been published since the last rotation, so it signs at once; one that is younger than verifiers may cache the public keys signs from signsFrom on. While a rotation waits for that, repeating it answers the same.',
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
      summary: 'End a signing key now: every token that it signed is dead.',
      access: { kind: 'key', action: 'signing_keys.retire' },
      params: kidParams,
      body: retireBody,
      answer: {
        status: 200,
        description: 'The signing keys that are left. Where it was the one that signs, the waiting one has taken over.',
        schema: signingKeysSchema,
      },
      codes: ['not_found', ...CHANGE_CODES],
      handle: async ({ params, body, by }) => {
        await tokens.retireSigningKey(params.kid, { ...omitUndefined(body ?? {}), by: by.caller });
        // Who may end one is shown what is left of them.
        return { items: tokens.signingKeys() };
      },
    }),
  ];
}
