/** Routes for the versions of a key: rotation, list, and retiring older ones. */
import type { PantheonAuth, RotateKeyInput } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import {
  forceFlag,
  idempotencyHeader,
  idempotencyKeyOf,
  idParams,
  ifMatchOf,
  omitUndefined,
  reasonBody,
  settleFlag,
  wholeNumber,
} from '../../http/parameters.ts';
import { changedKeySchema, changedVersionSchema, settledRotationSchema, versionsSchema } from './schemas.ts';

/** For the OpenAPI file only: the engine parses the body. */
export const rotateBody = z
  .strictObject({
    overlap: z
      .union([z.string(), z.int().min(0)])
      .nullish()
      .describe(
        'How long the previous version is still accepted: "15m", "12h", "30d", or whole seconds; at most 30 days. Default: that of the rotation policy, or 1 day.',
      ),
    expectedVersion: z
      .int()
      .min(1)
      .nullish()
      .describe(
        'The number of the current version. With it the key is rotated even if an older version is still accepted.',
      ),
    retireOnFirstUse: z
      .boolean()
      .nullish()
      .describe(
        'Whether the previous version ends within seconds of the first use of the new one, if its overlap has not ended by then. Default: false.',
      ),
  })
  .meta({ id: 'RotateKeyInput', examples: [{ overlap: '1h' }] })
  .optional();

const versionParams = z.strictObject({
  id: z.string(),
  version: wholeNumber(z.int().min(1).max(999_999_999)),
});

export function keyVersionOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'POST',
      url: '/v1/keys/:id/rotate',
      id: 'rotateKey',
      tag: 'Versions',
      summary: 'Rotate a key: create its next version. The previous version is accepted until the overlap ends.',
      access: { kind: 'key', action: 'keys.rotate' },
      params: idParams,
      conditional: true,
      query: z.strictObject({ settle: settleFlag }),
      headers: idempotencyHeader,
      body: rotateBody,
      bodyIsReadByEngine: true,
      answer: { status: 201, description: 'The new key string.', schema: settledRotationSchema, tagged: 'apiKey' },
      codes: ['not_grantable', 'key_quarantined', 'overloaded', ...ROTATION_CODES],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...idempotencyKeyOf(request), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).rotation.rotate(params.id, body as RotateKeyInput, options);
      },
    }),
    operation({
      method: 'POST',
      url: '/v1/keys/:id/rollback',
      id: 'rollBackKey',
      tag: 'Versions',
      summary:
        'Roll the key back to the version before the current one, while that version is still accepted: it is current again, and the rolled-back version is retired for ever, with its tokens.',
      access: { kind: 'key', action: 'keys.rotate' },
      params: idParams,
      conditional: true,
      query: z.strictObject({ force: forceFlag, settle: settleFlag }),
      body: reasonBody,
      answer: { status: 200, description: 'The record.', schema: changedKeySchema, tagged: 'itself' },
      codes: [
        'not_grantable',
        'not_allowed',
        'key_revoked',
        'key_suspended',
        'key_expired',
        'version_conflict',
        'version_in_use',
        'key_quarantined',
        ...CHANGE_CODES,
      ],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...omitUndefined(body), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).rotation.rollBack(params.id, options);
      },
    }),
    operation({
      method: 'GET',
      url: '/v1/keys/:id/versions',
      id: 'listKeyVersions',
      tag: 'Versions',
      summary: 'List the versions of a key, newest first, each with its usage.',
      access: { kind: 'key', action: 'keys.read' },
      params: idParams,
      answer: { status: 200, description: 'All versions that are kept.', schema: versionsSchema },
      codes: ['key_quarantined', 'overloaded'],
      handle: async ({ params, by }) => ({
        items: await auth.tenant(by.tenantId).keys.versions(params.id, { by: by.caller }),
      }),
    }),
    operation({
      method: 'POST',
      url: '/v1/keys/:id/versions/:version/retire',
      id: 'retireKeyVersion',
      tag: 'Versions',
      summary: 'Retire an older version before its overlap ends. Idempotent.',
      access: { kind: 'key', action: 'keys.rotate' },
      params: versionParams,
      conditional: true,
      query: z.strictObject({ settle: settleFlag }),
      body: reasonBody,
      answer: { status: 200, description: 'The version.', schema: changedVersionSchema },
      codes: ['key_revoked', 'key_quarantined', 'version_conflict', 'overloaded', ...CHANGE_CODES],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...omitUndefined(body), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).rotation.retire(params.id, params.version, options);
      },
    }),
  ];
}

export const ROTATION_CODES = [
  'not_allowed',
  'key_revoked',
  'key_suspended',
  'key_expired',
  'rotation_in_progress',
  'version_conflict',
  'already_claimed',
  'idempotency_mismatch',
  ...CHANGE_CODES,
] as const;
