/** What a key may do about itself, as its policy allows. It acts in its own tenant, and its environment does not matter. */
import type { PantheonAuth, Principal, RotateKeyInput, VerifiedToken } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import { idempotencyHeader, idempotencyKeyOf, ifMatchOf, omitUndefined, reasonBody } from '../../http/parameters.ts';
import { ROTATION_CODES, rotateBody } from '../keys/key-versions.ts';
import { apiKeySchema, rotationSchema } from '../keys/schemas.ts';
import { tokenSelfSchema } from './schemas.ts';

export function selfOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'GET',
      url: '/v1/self',
      id: 'getSelf',
      tag: 'Self',
      summary: 'Look at the key that is calling. A token sees what it may do itself, and not the record of its key.',
      access: { kind: 'self', proof: false },
      answer: {
        status: 200,
        description: 'The record of a key; of a token what it may know.',
        schema: z.union([apiKeySchema, tokenSelfSchema]),
        tagged: 'itself',
      },
      codes: ['key_quarantined'],
      handle: ({ by }) =>
        by.principal.token === null
          ? auth.tenant(by.principal.tenantId).keys.getSelf(by.caller)
          : tokenSelf(by.principal, by.principal.token),
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
        auth
          .tenant(by.principal.tenantId)
          .keys.revokeSelf(by.caller, { ...omitUndefined(body), ...ifMatchOf(request) }),
    }),
  ];
}

/**
 * A token was narrowed by somebody for somebody: what else its key may do and hand out, how it is limited and what is noted
 * with it is not for whoever holds the token.
 */
function tokenSelf({ keyId: id, environment, permissions, expiresAt }: Principal, token: VerifiedToken) {
  const ends = Math.min(token.expiresAt, expiresAt ?? token.expiresAt);
  return { id, environment, permissions, expiresAt: new Date(ends) };
}
