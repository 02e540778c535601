/**
 * Calls of a key about itself, as its policy allows. They are in its own tenant, and both environments are accepted.
 */
import type { PantheonAuth, Principal, RotateKeyInput, VerifiedToken } from 'pantheon-auth';
import { z } from 'zod';
import { senderOf, toAuthRequest } from '../../http/caller.ts';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import { idempotencyHeader, idempotencyKeyOf, ifMatchOf, omitUndefined, reasonBody } from '../../http/parameters.ts';
import { sendRefusal } from '../../http/problem.ts';
import { ROTATION_CODES, rotateBody } from '../keys/key-versions.ts';
import { apiKeySchema, rotationSchema } from '../keys/schemas.ts';
import { nextSecretSchema, tokenSelfSchema } from './schemas.ts';

export function selfOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'GET',
      url: '/v1/self',
      id: 'getSelf',
      tag: 'Self',
      summary: 'Get the calling key. A token gets its own permissions and expiry, not the record of its key.',
      access: { kind: 'self', proof: false },
      answer: {
        status: 200,
        description: 'For a key: its record. For a token: a part of it.',
        schema: z.union([apiKeySchema, tokenSelfSchema]),
        tagged: 'itself',
      },
      codes: ['key_quarantined', 'overloaded'],
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
      summary: 'Rotate the calling key. Needs its current key string and a rotation policy on the key.',
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
    {
      method: 'GET',
      url: '/v1/self/next',
      id: 'getNextSecret',
      tag: 'Self',
      summary:
        'Get the next key string, encrypted to the recipientJwk of the calling key, after the service has rotated the key and until the new version is used. Needs the key string of the version before it, whose overlap may have ended.',
      access: { kind: 'holder' },
      answer: { status: 200, description: 'The encrypted key string.', schema: nextSecretSchema },
      codes: ['key_quarantined', 'limiter_unavailable', 'overloaded'],
      handle: async (request, reply) => {
        const { userAgent } = senderOf(request);
        const answer = await auth.nextSecret({ ...toAuthRequest(request), userAgent });
        if (!answer.found) {
          sendRefusal(request, reply, answer.refusal);
          return reply;
        }
        reply.headers(answer.headers);
        request.outcome = { cause: null, keyId: answer.keyId };
        return answer.next;
      },
    },
    operation({
      method: 'POST',
      url: '/v1/self/revoke',
      id: 'revokeSelf',
      tag: 'Self',
      summary: 'Revoke the calling key. Final. Needs its current version.',
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
 * A token may have been given to somebody with fewer permissions than the key has. So it does not see the other
 * permissions, the `grantable`, the limits or the metadata of its key.
 */
function tokenSelf({ keyId: id, environment, permissions, expiresAt }: Principal, token: VerifiedToken) {
  const ends = Math.min(token.expiresAt, expiresAt ?? token.expiresAt);
  return { id, environment, permissions, expiresAt: new Date(ends) };
}
