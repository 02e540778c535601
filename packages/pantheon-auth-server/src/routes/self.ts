/** What a key may do about itself, as its policy allows. It acts in its own tenant, and its environment does not matter. */
import type { PantheonAuth, RotateKeyInput } from 'pantheon-auth';
import { CHANGE_CODES, type Operation, operation } from '../operation.ts';
import { apiKeySchema, rotationSchema } from '../schemas.ts';
import { ROTATION_CODES, rotateBody } from './key-versions.ts';
import { given, idempotencyHeader, idempotencyKeyOf, ifMatchOf, reasonBody } from './parameters.ts';

export function selfOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'GET',
      url: '/v1/self',
      id: 'getSelf',
      tag: 'Self',
      summary: 'Look at the key that is calling.',
      access: { kind: 'self', proof: false },
      answer: { status: 200, description: 'The record.', schema: apiKeySchema, tagged: 'itself' },
      codes: ['key_quarantined'],
      handle: ({ by }) => auth.tenant(by.principal.tenantId).keys.getSelf(by.caller),
    }),
    operation({
      method: 'POST',
      url: '/v1/self/rotate',
      id: 'rotateSelf',
      tag: 'Self',
      summary: 'Claim the next secret by proving the current one. Only where the key has a rotation policy.',
      access: { kind: 'self', proof: true },
      conditional: true,
      headers: idempotencyHeader,
      body: rotateBody,
      bodyIsReadByEngine: true,
      answer: { status: 201, description: 'The new key string.', schema: rotationSchema, tagged: 'apiKey' },
      codes: ['key_quarantined', ...ROTATION_CODES],
      handle: ({ body, by, request }) =>
        auth.tenant(by.principal.tenantId).rotation.rotateSelf(by.caller, body as RotateKeyInput, {
          ...idempotencyKeyOf(request),
          ...ifMatchOf(request),
        }),
    }),
    operation({
      method: 'POST',
      url: '/v1/self/revoke',
      id: 'revokeSelf',
      tag: 'Self',
      summary: 'Give the calling key up, for ever. Only its current version may.',
      access: { kind: 'self', proof: true },
      conditional: true,
      body: reasonBody,
      answer: { status: 200, description: 'The record.', schema: apiKeySchema, tagged: 'itself' },
      codes: ['last_administrator', 'version_conflict', 'key_quarantined', ...CHANGE_CODES],
      handle: ({ body, by, request }) =>
        auth.tenant(by.principal.tenantId).keys.revokeSelf(by.caller, { ...given(body), ...ifMatchOf(request) }),
    }),
  ];
}
